"""One daemon a session, started as a person starts it, in front of the stand-ins."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLLECTION = "arcticdem-32m"
CHUNK = 256
CHUNK_M = CHUNK * 32
LEFT, TOP = -4_000_096, 4_100_096
"""Corner of the collection's grid."""
_FRESH_COLS, _FRESH_ROWS = range(880, 900, 3), range(440, 474, 3)
"""Chunks around tile 44_74, which exists with its neighbours: for tests that need what nobody asked for.

Three apart, so that no two share a block of a file.
"""


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


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon."""

    url: str
    process: subprocess.Popen[str]
    cache_dir: Path
    log: Path
    http: httpx.Client
    places: Iterator[tuple[int, int]] = field(
        default_factory=lambda: itertools.product(_FRESH_ROWS, _FRESH_COLS)
    )

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def alive(self):
        return self.process.poll() is None

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


@contextlib.contextmanager
def running(folder, settings):
    """A daemon with these settings, which live in its environment; ended with the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ICEHOUSE_")}
    log = folder / "log"
    command = [
        sys.executable,
        "-m",
        "icehouse_server",
        "serve",
        "--port",
        "0",
        "--cache-dir",
        folder / "cache",
    ]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command,
            env={**environment, **settings},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            assert "http://127.0.0.1:" in line, f"{line}{log.read_text()}"
            url = line.split()[-1]
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
                yield Daemon(url, process, folder / "cache", log, http)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=25)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def start_daemon(standins, tmp_path_factory):
    """Starts a daemon in front of the stand-ins: `with start_daemon({"ICEHOUSE_PORT": "0"}) as daemon`."""
    common = {
        "ICEHOUSE_MIRRORS": json.dumps(standins.mirrors),
        "ICEHOUSE_FAILURE_TTL": "0",
        "ICEHOUSE_FETCH_ATTEMPTS": "2",
        "ICEHOUSE_FETCH_BUDGET": "5",
        "ICEHOUSE_READ_TIMEOUT": "60",
        "ICEHOUSE_ITEMS_MAX_AGE": "0",
        "ICEHOUSE_LOG_FORMAT": "json",
    }
    return lambda settings: running(tmp_path_factory.mktemp("daemon"), {**common, **settings})


@pytest.fixture(scope="session")
def daemon(start_daemon):
    with start_daemon({}) as started:
        yield started


@pytest.fixture
def place(daemon):
    """One chunk that no other test asks for."""
    return daemon.place()
