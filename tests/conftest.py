"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from icehouse_server.testing.standins import StandIns

if TYPE_CHECKING:
    from collections.abc import Iterator

# Machines share their cores: no deadline for one example. HYPOTHESIS_PROFILE=long looks twenty times as hard.
_SLOW = (HealthCheck.too_slow,)
settings.register_profile("quick", deadline=None, suppress_health_check=_SLOW)
settings.register_profile("long", deadline=None, suppress_health_check=_SLOW, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """The stand-in servers, one pair a session, as fast as they go. Read only: see `fresh_standins`."""
    with StandIns.start(folder=tmp_path_factory.mktemp("standins")) as running:
        yield running


@pytest.fixture
def fresh_standins(standins: StandIns) -> Iterator[StandIns]:
    """The same pair with counters at zero; counters, faults, lies and shape are put back afterwards."""
    standins.reset()
    yield standins
    standins.reset()
    standins.shape()
