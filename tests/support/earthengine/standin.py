"""The stand-in for Earth Engine as a child process: what tests and benchmarks use.

with EarthEngineStandIn.start() as standin:
    ee.Initialize(credentials=None, project="any", url=standin.url)
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import httpx

from icehouse_server.demo.standins import Counters, server
from support import CHILD_PATH, SERVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from icehouse_server.demo.faults import Fault
    from support.earthengine.pixels import Rules

COMPUTE_PIXELS = "*:computePixels"
"""Path of a `Fault` that spoils pixels."""
DISCOVERY = "/$discovery/rest"
"""Path of a `Fault` that spoils initialisation; `ALGORITHMS` is its second half."""
ALGORITHMS = "*/algorithms"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarthEngineStandIn:
    """The server, running. Ended when the `with` block is left, however that happens."""

    url: str
    """For `ee.Initialize(url=...)`: no slash at the end."""
    _http: httpx.Client

    @classmethod
    @contextlib.contextmanager
    def start(cls, *, latency: float = 0.0, bandwidth: float | None = None) -> Iterator[Self]:
        """Start the server and wait until it answers.

        Args:
            latency: Seconds before each answer.
            bandwidth: Bytes a second, shared by all connections.
        """
        shape = ["--latency", str(latency)] + ([] if bandwidth is None else ["--bandwidth", str(bandwidth)])
        # trust_env: a proxy set for the outer world is none for the loopback.
        with (
            server(["ee", *shape], module=SERVE, environment=CHILD_PATH) as base,
            httpx.Client(timeout=30, trust_env=False) as http,
        ):
            yield cls(url=base.rstrip("/"), _http=http)

    def counters(self) -> Counters:
        """What the server was asked since the last reset; `matching(":computePixels")` counts one kind."""
        return Counters.read(self._http, f"{self.url}/")

    def reset(self) -> None:
        """Forget counts, faults and rules."""
        self._post("reset", None)

    def faults(self, faults: Sequence[Fault]) -> None:
        """Replace the faults in force."""
        self._post("faults", [fault.to_json() for fault in faults])

    def shape(self, *, latency: float = 0.0, bandwidth: float | None = None) -> None:
        """Set latency (seconds) and bandwidth (bytes a second, shared)."""
        self._post("shape", {"latency": latency, "bandwidth": bandwidth})

    def rules(self, rules: Rules) -> None:
        """Replace the rules: limits, credentials, what lies under the mask."""
        self._post("rules", asdict(rules))

    def _post(self, what: str, document: object) -> None:
        self._http.post(f"{self.url}/_control/{what}", json=document).raise_for_status()
