"""Fixtures of the whole suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icehouse_server.testing.standins import StandIns

if TYPE_CHECKING:
    from collections.abc import Iterator


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
