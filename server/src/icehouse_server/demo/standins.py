"""Both stand-in servers as child processes: what tests, benchmarks and the demo use.

with StandIns.start(folder=folder, latency=0.04) as standins:
    client = pystac_client.Client.open(standins.open_stac_url)
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import httpx

from icehouse_server.demo import pixels, world
from icehouse_server.demo.pgc import OBJECTS_URL, tile_of
from icehouse_server.demo.stac_api import OPEN_PREFIX, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from affine import Affine
    from numpy.typing import NDArray

    from icehouse_server.demo.faults import Fault
    from icehouse_server.demo.object_builder import Variant
    from icehouse_server.demo.pgc import Tile

_PUBLISHED_STAC = "https://stac.pgc.umn.edu/"
_PREPARE_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What one server, or both, were asked since the last reset."""

    requests: int = 0
    bytes: int = 0
    """Of bodies sent."""
    by_path: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(method, path) -> requests, bytes."""
    ranges: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Path -> Range headers, in the order they came."""
    most_active: int = 0
    """The most requests that were under way at once at one server."""

    @classmethod
    def read(cls, http: httpx.Client, base: str) -> Self:
        """Ask the server at a base URL, which ends with a slash."""
        report = http.get(f"{base}_control/counters").raise_for_status().json()
        rows = {
            (row["method"], row["path"]): (row["requests"], row["bytes"]) for row in report.pop("by_path")
        }
        return cls(by_path=rows, **report)

    def matching(self, text: str) -> tuple[int, int]:
        """Requests and bytes of the paths that contain `text`."""
        found = [counts for (_, path), counts in self.by_path.items() if text in path]
        return sum(requests for requests, _ in found), sum(size for _, size in found)

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            requests=self.requests + other.requests,
            bytes=self.bytes + other.bytes,
            by_path={**self.by_path, **other.by_path},
            ranges={**self.ranges, **other.ranges},
            most_active=max(self.most_active, other.most_active),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """A STAC API and its object store, running: what they count, and how they are steered."""

    stac_base: str
    """Base URL of the STAC API's server, with a slash at the end; `cogs_base` of the object store's."""
    cogs_base: str
    _http: httpx.Client

    def counters(self) -> Counters:
        """What both servers were asked since the last reset."""
        return self.stac_counters() + self.cogs_counters()

    def stac_counters(self) -> Counters:
        """What the STAC API was asked."""
        return Counters.read(self._http, self.stac_base)

    def cogs_counters(self) -> Counters:
        """What the object store was asked."""
        return Counters.read(self._http, self.cogs_base)

    def reset(self) -> None:
        """Forget counts, faults and lies, at both servers."""
        self._tell("reset", None)

    def faults(self, faults: Sequence[Fault]) -> None:
        """Replace the faults in force, at both servers; each counts for itself."""
        self._tell("faults", [fault.to_json() for fault in faults])

    def shape(self, *, latency: float = 0.0, bandwidth: float | None = None) -> None:
        """Set latency (seconds) and bandwidth (bytes a second, shared) of both servers."""
        self._tell("shape", {"latency": latency, "bandwidth": bandwidth})

    def lies(self, variants: Mapping[str, Variant]) -> None:
        """Replace the object store's files that lie about themselves: key -> how."""
        self._post(self.cogs_base, "variants", {key: asdict(variant) for key, variant in variants.items()})

    def prepare(self, keys: Sequence[str]) -> dict[str, int]:
        """Build files now, so that they cost nothing later. Returns their sizes in bytes by key."""
        sizes: dict[str, int] = self._post(self.cogs_base, "prepare", list(keys))
        return sizes

    def _tell(self, what: str, document: object) -> None:
        for base in (self.stac_base, self.cogs_base):
            self._post(base, what, document)

    def _post(self, base: str, what: str, document: object) -> Any:  # noqa: ANN401 - whatever JSON the server answers
        response = self._http.post(f"{base}_control/{what}", json=document, timeout=_PREPARE_SECONDS)
        return response.raise_for_status().json()


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIns(Servers):
    """The two servers, running. Ended when the `with` block is left, however that happens."""

    @classmethod
    @contextlib.contextmanager
    def start(
        cls, *, folder: Path, latency: float = 0.0, bandwidth: float | None = None, page_size: int = 10
    ) -> Iterator[Self]:
        """Start both servers and wait until they answer.

        Args:
            folder: Where built files are kept; one folder may serve many runs.
            latency: Seconds before each answer, at both servers.
            bandwidth: Bytes a second of the object store, shared by its connections.
            page_size: Items in a page of a search.
        """
        shape = ["--latency", str(latency)] + ([] if bandwidth is None else ["--bandwidth", str(bandwidth)])
        with contextlib.ExitStack() as stack:
            cogs = stack.enter_context(server(["cogs", "--folder", str(folder), *shape]))
            pages = ["--page-size", str(page_size), "--latency", str(latency), "--cogs-url", cogs]
            stac = stack.enter_context(server(["stac", *pages]))
            # trust_env: a proxy set for the outer world is none for the loopback.
            http = stack.enter_context(httpx.Client(timeout=30, trust_env=False))
            yield cls(stac_base=stac, cogs_base=cogs, _http=http)

    @property
    def stac_url(self) -> str:
        """Root of the API whose documents carry the published URLs."""
        return f"{self.stac_base.rstrip('/')}{PREFIX}/"

    @property
    def open_stac_url(self) -> str:
        """Root of the API whose documents carry the stand-ins' own URLs, for clients that can't map URLs."""
        return f"{self.stac_base.rstrip('/')}{OPEN_PREFIX}/"

    @property
    def cogs_url(self) -> str:
        """What stands for the object store's URL."""
        return self.cogs_base

    @property
    def mirrors(self) -> dict[str, str]:
        """The daemon's `mirrors` setting: published URL prefix -> the stand-in's."""
        return {_PUBLISHED_STAC: self.stac_base, OBJECTS_URL: self.cogs_base}

    @staticmethod
    def key(resolution: str, tile: str, asset: str = "dem", domain: str = "arcticdem") -> str:
        """Key of an object, for `prepare` and `lies`."""
        return tile_of(domain, resolution, tile).key(asset)

    @staticmethod
    def dem_key(resolution: str, tile: str, domain: str = "arcticdem") -> str:
        """Key of a tile's dem, as ("32m", "67_33")."""
        return tile_of(domain, resolution, tile).key("dem")

    @staticmethod
    def truth(
        domain: str, resolution: str, asset: str, geobox_affine: Affine, shape: tuple[int, int]
    ) -> tuple[pixels.Pixels, NDArray[Any]]:
        """What must come out for a rectangle of the collection's lattice; see `pixels.truth`."""
        return pixels.truth(domain, resolution, asset, geobox_affine, shape)

    @staticmethod
    def tiles(domain: str, resolution: str) -> tuple[Tile, ...]:
        """Every tile that exists, sorted by item id."""
        return world.tiles(domain, resolution)


@contextlib.contextmanager
def server(
    words: Sequence[str],
    *,
    module: str = "icehouse_server.demo",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """One server (its word and options) in a process of its own; yields its URL.

    Args:
        words: the server's word and options.
        module: what runs it.
        environment: variables of the process, in addition to those of this one.
    """
    command = [sys.executable, "-m", module, *words, "--until-eof"]
    variables = {**os.environ, **environment}
    with subprocess.Popen(  # noqa: S603 - ours
        command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the stand-in server ended at once, with code {process.wait()}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
