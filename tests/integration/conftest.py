"""Daemons as processes of their own, against the stand-ins, with the real client."""

from __future__ import annotations

import itertools
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field

import httpx
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import icehouse
from icehouse_server.testing.daemon import DaemonProcess, environment
from support import CHILD_PATH

ORIGINS = {
    "2m": (2, -4_000_100, 4_100_100),
    "10m": (10, -4_000_100, 4_100_100),
    "32m": (32, -4_000_096, 4_100_096),
}
"""Pixel size and upper left corner of the collections' grids."""
SUBJECT = (-740_000, 2_640_000)
"""x, y in the middle of tile 67_33, which has content everywhere at 32 m."""
running = pytest.StashKey[list]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Show the daemons' logs where a test fails."""
    report = yield
    if report.failed:
        for daemon in (*item.stash.get(running, []), *item.session.stash.get(running, [])):
            report.sections.append((f"log of the daemon {daemon.pid}", daemon.log.read_text()[-4000:]))
    return report


@dataclass(kw_only=True, eq=False)
class Daemon(DaemonProcess):
    """A daemon, and the clients that speak to it."""

    clients: list = field(default_factory=list)

    def client(self, collection="arcticdem-32m", **options):
        made = icehouse.Client(self.url, collection, **options)
        self.clients.append(made)
        return made

    def ready(self):
        """What /readyz says."""
        return httpx.get(f"{self.url}/readyz", timeout=30).json()

    def metrics(self):
        """The figures of /metrics: name with labels -> value."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    def close(self):
        """End it in any case; True if it ended as it should."""
        for client in self.clients:
            client.close()
        well = not self.alive or self.stop() == 0
        super().close()
        return well


class Launcher:
    """Starts daemons in a folder of their own, and ends what it started."""

    def __init__(self, folder, standins):
        self.folder = folder
        self.standins = standins
        self.daemons = []
        self.numbers = itertools.count()

    def environment(self, **settings):
        """An environment in which nothing but these settings is set, nor found in the user's home."""
        return environment(settings, home=self.folder)

    def command(self, *words, timeout=120, **settings):
        """Run a command of the command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "icehouse_server", *map(str, words)],
            env=self.environment(**settings),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __call__(self, cache=None, *, port=0, ready=True, moment=None, **settings):
        """Start a daemon on `cache` and wait until it is ready (or, with ready=False, until it ends).

        With `moment` it kills itself then, see `support.killed`; with ready=None it may or
        may not become ready.
        """
        number = next(self.numbers)
        module = ("support.killed", moment) if moment else ("icehouse_server",)
        made = Daemon(
            cache=cache or self.folder / f"cache-{number}",
            settings={"collections": "arcticdem-32m", "mirrors": self.standins.mirrors, **settings},
            port=port,
            log=self.folder / f"daemon-{number}.log",
            home=self.folder,
            command=(*module, "serve"),
            variables=CHILD_PATH if moment else {},
        )
        made.spawn()
        self.daemons.append(made)
        came = made.wait_ready()
        assert ready is None or came is ready, made.log.read_text()
        return made

    def close(self):
        ended = [daemon.close() for daemon in self.daemons]
        assert all(ended), "a daemon did not end as it should"


@pytest.fixture
def daemon(request, tmp_path, fresh_standins):
    """Starts daemons: `daemon(cache_folder, setting=value)`. The stand-ins' counters are at zero."""
    launcher = Launcher(tmp_path, fresh_standins)
    request.node.stash[running] = launcher.daemons
    with closing(launcher):
        yield launcher


@pytest.fixture(scope="session")
def launcher(request, tmp_path_factory, standins):
    """Runs commands and daemons that live as long as the session."""
    launcher = Launcher(tmp_path_factory.mktemp("daemons"), standins)
    request.session.stash[running] = launcher.daemons
    with closing(launcher):
        yield launcher


@pytest.fixture(scope="session")
def shared(launcher):
    """One daemon with all collections, for tests that neither stop it nor care what it has cached."""
    return launcher(collections="")


@pytest.fixture(scope="session")
def native():
    """Makes windows of a collection's own grid: `native("32m", x, y, (rows, columns))`."""

    def make(resolution, x, y, shape):
        size, left, top = ORIGINS[resolution]
        column, row = round((x - left) / size), round((top - y) / size)
        return GeoBox(shape, Affine(size, 0, left + column * size, 0, -size, top - row * size), "EPSG:3413")

    return make


@pytest.fixture(scope="session")
def chunk_window(native):
    """Makes windows of whole chunks at 32 m around SUBJECT; its arguments count chunks."""
    side = 256 * 32
    left, top = ((SUBJECT[0] - ORIGINS["32m"][1]) // side, (ORIGINS["32m"][2] - SUBJECT[1]) // side)

    def make(row, column, rows=1, columns=1):
        x, y = ORIGINS["32m"][1] + (left + column) * side, ORIGINS["32m"][2] - (top + row) * side
        return native("32m", x, y, (256 * rows, 256 * columns))

    return make


@pytest.fixture(scope="session")
def truth(standins):
    """The pixels that must come out for a window of a collection's own grid."""

    def look(resolution, geobox, band="dem"):
        return standins.truth("arcticdem", resolution, band, geobox.affine, geobox.shape)[0]

    return look
