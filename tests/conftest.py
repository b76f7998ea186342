"""Fixtures of the whole suite."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import httpx
import pytest
from hypothesis import HealthCheck, settings

import icehouse_server.demo
import support.earth_search
from icehouse_server.demo.standins import StandIns
from support.earth_search.standin import EarthSearchStandIn
from support.earthengine.standin import EarthEngineStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

# Machines share their cores: no deadline for one example. HYPOTHESIS_PROFILE=long looks forty times as hard;
# rounds of the long run (tests/soak.py), each with another seed, look six times as hard.
_SLOW = (HealthCheck.too_slow,)
settings.register_profile("quick", deadline=None, suppress_health_check=_SLOW, max_examples=50)
settings.register_profile("long", deadline=None, suppress_health_check=_SLOW, max_examples=2000)
settings.register_profile("soak", deadline=None, suppress_health_check=_SLOW, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

_DAY = 86_400


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests begin first, then those with many: none is begun when all else is over."""
    sizes = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -sizes[item.path]))


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """Each client of httpx reads the machine's certificates, in 30 ms, also for http: here once a process."""
    cached = functools.cache(httpx.create_ssl_context)
    with mock.patch("httpx._transports.default.create_ssl_context", cached):
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for what blocks, as many as a daemon on a small machine has."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture(scope="session")
def objects_folder(pytestconfig: pytest.Config) -> Path:
    """Where the object store keeps what it builds, from run to run, until the code that builds it changes."""
    kept = pytestconfig.cache.mkdir("icehouse-objects")
    folders = (icehouse_server.demo, support.earth_search)
    sources = [source for folder in folders for source in sorted(Path(folder.__path__[0]).glob("*.py"))]
    digest = hashlib.blake2b(b"".join(source.read_bytes() for source in sources), digest_size=8).hexdigest()
    for old in kept.iterdir():
        # A young one of other code may be in use by another run.
        if old.name != digest and time.time() - old.stat().st_mtime > _DAY:
            shutil.rmtree(old, ignore_errors=True)
    (kept / digest).mkdir(exist_ok=True)
    return kept / digest


@pytest.fixture(scope="session")
def standins(objects_folder: Path) -> Iterator[StandIns]:
    """The stand-in servers, one pair a session, as fast as they go. Read only: see `fresh_standins`."""
    with StandIns.start(folder=objects_folder) as running:
        yield running


@pytest.fixture
def fresh_standins(standins: StandIns) -> Iterator[StandIns]:
    """The same pair with counters at zero; counters, faults, lies and shape are put back afterwards."""
    standins.reset()
    yield standins
    standins.reset()
    standins.shape()


@pytest.fixture(scope="session")
def earth_search(objects_folder: Path) -> Iterator[EarthSearchStandIn]:
    """The stand-in of Earth Search, one a session. Read only: see `fresh_earth_search`."""
    with EarthSearchStandIn.start(folder=objects_folder) as running:
        yield running


@pytest.fixture
def fresh_earth_search(earth_search: EarthSearchStandIn) -> Iterator[EarthSearchStandIn]:
    """The same with counters at zero; counters, faults, lies, shape and clocks are put back afterwards."""
    earth_search.reset()
    yield earth_search
    earth_search.reset()
    earth_search.shape()


@pytest.fixture(scope="session")
def earth_engine() -> Iterator[EarthEngineStandIn]:
    """The stand-in of Earth Engine, one a session. Read only: see `fresh_earth_engine`."""
    with EarthEngineStandIn.start() as running:
        yield running


@pytest.fixture
def fresh_earth_engine(earth_engine: EarthEngineStandIn) -> Iterator[EarthEngineStandIn]:
    """The same with counters at zero; counters, faults, rules and shape are put back afterwards."""
    earth_engine.reset()
    yield earth_engine
    earth_engine.reset()
    earth_engine.shape()
