"""One daemon a session, started as a person starts it, in front of the stand-ins."""

from __future__ import annotations

import contextlib
import itertools
import socket
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import httpx
import pytest
from affine import Affine

from icehouse_server.demo.standins import StandIns
from icehouse_server.testing.daemon import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = "arcticdem-32m"
CHUNK = 256
CHUNK_M = CHUNK * 32
LEFT, TOP = -4_000_096, 4_100_096
"""Corner of the collection's grid."""
_FRESH_COLS, _FRESH_ROWS = range(880, 900, 3), range(440, 474, 3)
"""Chunks around tile 44_74, which exists with its neighbours: for tests that need what was never asked for.

Three apart, so that no two share a block of a file.
"""


def fresh_places():
    """Rows and columns of the chunks that have pixels: a few of them are water, and so void."""
    for row, col in itertools.product(_FRESH_ROWS, _FRESH_COLS):
        affine = Affine(32, 0, LEFT + col * CHUNK_M, 0, -32, TOP - row * CHUNK_M)
        _, valid = StandIns.truth("arcticdem", "32m", "dem", affine, (CHUNK, CHUNK))
        if valid.any():
            yield row, col


@dataclass(frozen=True, slots=True)
class Place:
    """One chunk of the collection that no other test asks for."""

    row: int
    col: int

    @property
    def left(self):
        return LEFT + self.col * CHUNK_M

    @property
    def top(self):
        return TOP - self.row * CHUNK_M

    def query(self, **more):
        """Parameters that need this chunk alone: 64 x 64 pixels in its middle."""
        x, y = self.left + 3200, self.top - 3200
        return {"bbox": f"{x},{y - 2048},{x + 2048},{y}", "bbox-crs": "EPSG:3413", **more}

    def body(self, **more):
        return {
            "proj:code": "EPSG:3413",
            "proj:transform": [32, 0, self.left + 3200, 0, -32, self.top - 3200],
            "proj:shape": [64, 64],
            **more,
        }


@dataclass(kw_only=True, eq=False)
class Daemon(DaemonProcess):
    """A daemon, and how tests ask it."""

    places: Iterator[tuple[int, int]] = field(default_factory=fresh_places)

    @property
    def cache_dir(self):
        return self.cache

    @cached_property
    def http(self):
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def place(self):
        return Place(*next(self.places))

    def path(self, rest, collection=COLLECTION):
        return f"/collections/{collection}/{rest}"

    def get(self, rest="coverage", *, headers=None, method="GET", **query):
        """Ask the collection; `bbox_crs` stands for `bbox-crs`."""
        params = {name.replace("_crs", "-crs"): value for name, value in query.items()}
        return self.http.request(method, self.path(rest), params=params, headers=headers)

    def post(self, rest="coverage", body=None, **options):
        return self.http.post(self.path(rest), json=body, **options)

    def raw(self, data, *, timeout=20.0):
        """Send bytes as they are and return what comes back until the daemon closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            parts = []
            while piece := connection.recv(65536):
                parts.append(piece)
        return b"".join(parts)


@pytest.fixture(scope="session")
def start_daemon(standins, tmp_path_factory):
    """Starts a daemon in front of the stand-ins: `with start_daemon({"ICEHOUSE_PORT": "0"}) as daemon`."""
    common = {
        "mirrors": standins.mirrors,
        "failure_ttl": 0,
        "fetch_attempts": 2,
        "fetch_budget": 5,
        "read_timeout": 60,
        "items_max_age": 0,
        "log_format": "json",
    }

    @contextlib.contextmanager
    def start(variables):
        folder = tmp_path_factory.mktemp("daemon")
        made = Daemon(
            cache=folder / "cache", settings=common, log=folder / "log", home=folder, variables=variables
        )
        with made, made.http:
            yield made

    return start


@pytest.fixture(scope="session")
def daemon(start_daemon):
    with start_daemon({}) as started:
        yield started


@pytest.fixture(autouse=True)
def idle(request):
    """What a test leaves under way would meet the faults of the next one, and its counts."""
    daemon = request.getfixturevalue("daemon") if "daemon" in request.fixturenames else None
    yield
    if daemon is not None:
        daemon.wait_idle()


@pytest.fixture
def place(daemon):
    """One chunk that no other test asks for."""
    return daemon.place()
