"""The inventory: states and counts against brute force, and what downloads tell it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from threading import Event, current_thread, main_thread
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from odc.geo.crs import CRS

from icehouse_server.core.errors import FailedChunk, TooLargeError
from icehouse_server.core.grid import Window
from icehouse_server.core.time import TimeAxis, TimeStep
from icehouse_server.downloads.block_task import BlockTask
from icehouse_server.downloads.chunk_flights import Failures, Flight, Flights
from icehouse_server.service import (
    ChunkState,
    Inventory,
    InventorySnapshot,
    ThroughputMonitor,
    Totals,
    View,
    changes,
)
from icehouse_server.service.inventory import _counts, _failed, _flying
from icehouse_server.store import Index
from icehouse_server.testing.fakes import tiny_spec

STEPS = TimeAxis(
    listed=tuple(
        TimeStep(start=datetime(year, 1, 1, tzinfo=UTC), end=datetime(year + 1, 1, 1, tzinfo=UTC))
        for year in (2019, 2020)
    )
)
SPEC = tiny_spec("tiny", time=STEPS)  # 10 x 13 chunks, two bands
ROWS, COLS = SPEC.grid.chunk_shape
LONLAT = CRS("EPSG:4326")


# States and counts


class Looked:
    """Downloads, as far as the inventory looks at them."""

    def __init__(self, flying):
        self.flying = flying

    def in_flight(self, key):
        return key in self.flying

    def in_flight_listed(self, name, band, time, chunks, level):
        layer = name, band, time, level
        found = [
            (key.row, key.col)
            for key in self.flying
            if (key.collection, key.band, key.time, key.level) == layer
            and chunks.row <= key.row < chunks.stop_row
            and chunks.col <= key.col < chunks.stop_col
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 2)


keys = st.builds(
    SPEC.key,
    st.sampled_from(["dem", "mask"]),
    st.integers(0, ROWS - 1),
    st.integers(0, COLS - 1),
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1]),
)
areas = st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(1, 10), st.integers(1, 13))


def brute(view, row, col, void, present, flying, failed):
    layers = [SPEC.key(band, row, col, time, view.level) for band, time in view.band_steps]
    if any(key in failed and key not in flying for key in layers):
        return ChunkState.FAILED
    if any(key in flying for key in layers):
        return ChunkState.IN_FLIGHT
    if all(key in void for key in layers):
        return ChunkState.VOID
    return ChunkState.PRESENT if all(key in present for key in layers) else ChunkState.ABSENT


@given(
    st.lists(st.tuples(st.sampled_from(["void", "present", "flying", "failed", "gone"]), keys), max_size=60),
    areas,
    st.sampled_from([("dem",), ("mask",), ("dem", "mask")]),
    st.sampled_from([(0,), (0, 1)]),
    st.sampled_from([1, 2, 4, 16]),
    st.sampled_from([0, 1]),
)
@example([], (0, 0, 10, 13), ("dem",), (), 1, 0)
def test_states_and_counts_are_those_of_brute_force(happened, area, bands, times, cell, level):
    index, void, present, flying, failed = Index(SPEC), set(), set(), set(), set()
    for what, key in happened:
        if what in {"void", "present"}:
            index.add(key, void=what == "void")
            present.add(key)
            (void.add if what == "void" else void.discard)(key)
        elif what == "gone":
            index.discard(key)
            present.discard(key)
            void.discard(key)
        else:
            (flying if what == "flying" else failed).add(key)
    row, col, height, width = area
    row, col = row // cell * cell, col // cell * cell
    window = Window.from_bounds(row, col, min(row + height, ROWS), min(col + width, COLS))
    view = View(collection=SPEC, level=level, bands=bands, times=times, areas=(window,), cell=cell)
    memory = Failures(1.0, lambda: 0.0)
    for key in failed:
        memory.note(key, FailedChunk(chunk=key.path, kind="source-refused", detail="no"))
    looked = Looked(flying)
    why = _failed(view, memory.kept("tiny", level), looked)
    (counts,) = _counts(view, index, _flying(view, looked), why)
    squares = view.squares(window)
    expected = np.zeros((squares.height, squares.width, 5), dtype=int)
    for r, c in product(range(window.row, window.stop_row), range(window.col, window.stop_col)):
        state = brute(view, r, c, void, present, flying, failed) if times else ChunkState.ABSENT
        expected[r // cell - squares.row, c // cell - squares.col, state] += 1
    assert (counts == expected).all()
    assert counts.sum() == window.pixels


def test_what_has_changed_is_found():
    view = View(
        collection=SPEC, level=0, bands=("dem",), times=(0,), areas=(Window(row=2, col=3, height=4, width=5),)
    )
    one = np.zeros((4, 5, 5), dtype=np.int32)
    one[..., 0] = 1
    two = one.copy()
    two[1, 2] = [0, 0, 1, 0, 0]
    no, other = (FailedChunk(chunk="dem", kind=kind, detail="") for kind in ("a", "b"))

    def picture(counts, **failed):
        return InventorySnapshot(counts=(counts,), failed=failed.get("failed", {}), unsure=0)

    def changed(before, after):
        return changes(before, after, view).tolist()

    assert changed(picture(one), picture(one.copy())) == []
    assert changed(picture(one), picture(two)) == [[3, 5]]
    before, after = picture(one, failed={(2, 3): no}), picture(two, failed={(2, 3): other})
    assert changed(before, after) == [[2, 3], [3, 5]]
    assert changed(before, before) == []


@pytest.mark.parametrize(("chunk", "cell", "hint"), [(16, 1, "cell=4"), (16, 2, "cell=4"), (1, 1, "cell=64")])
def test_too_many_squares_are_refused_with_what_would_do(chunk, cell, hint):
    spec = tiny_spec(rows=16 * 250, cols=16 * 260, chunk=chunk)
    rows, cols = spec.grid.chunk_shape
    whole = Window(row=0, col=0, height=rows, width=cols)

    def ask(cell):
        return View(collection=spec, level=0, bands=("dem",), times=None, areas=(whole,), cell=cell)

    with pytest.raises(TooLargeError) as caught:
        ask(cell)
    assert hint in caught.value.hint
    ask(int(hint.removeprefix("cell=")))


def test_too_many_layers_are_refused():
    with pytest.raises(TooLargeError, match="1026 bands and time steps"):
        View(collection=SPEC, level=0, bands=("dem", "mask"), times=tuple(range(513)), areas=())


# What downloads tell


async def test_flights_know_their_places_and_leave_nothing():
    flights, task = Flights(), BlockTask(spec=SPEC, block=None, priority=0)
    around = Window(row=0, col=0, height=4, width=4)
    one, two = (Flight(key=SPEC.key("dem", 1, col, 0), task=task) for col in (2, 3))
    for flight in (one, two):
        flights.add(flight)
    assert sorted(flights.listed("tiny", "dem", 0, around).tolist()) == [[1, 2], [1, 3]]
    assert not len(flights.listed("tiny", "dem", 1, around))
    assert not len(flights.listed("tiny", "dem", 0, around, 1))
    before = flights.version
    flights.remove(Flight(key=one.key, task=task))  # another one of the same chunk
    assert flights.version == before
    flights.remove(one)
    assert flights.version > before
    flights.remove(two)
    assert (len(flights), flights._places) == (0, {})


def test_failures_are_shown_for_a_while_and_listed_for_longer():
    now = [0.0]
    failures = Failures(10.0, lambda: now[0])
    one, two = SPEC.key("dem", 0, 0, 0), SPEC.key("dem", 0, 1, 0, 1)
    failed = FailedChunk(chunk=one.path, kind="source-refused", detail="no")
    failures.note(one, failed)
    failures.note(two, failed)
    seen = failures.version
    now[0] = 11.0
    assert failures.recent(one) is None
    assert [entry.key for entry in failures.kept("tiny", 0)] == [one]
    assert failures.version == seen
    failures.forget(one)
    assert failures.version > seen
    assert [entry.key for entry in failures.kept("tiny", 1)] == [two]
    seen, now[0] = failures.version, 400.0
    assert failures.version > seen, "time alone is a change"
    assert failures.kept("tiny", 1) == []
    assert [entry.key for entry in failures.last] == [one, two]


async def test_many_failures_are_gone_through_in_the_pool():
    downloads, view = (
        Looked(set()),
        View(
            collection=SPEC,
            level=0,
            bands=("dem",),
            times=(0,),
            areas=(Window(row=0, col=0, height=ROWS, width=COLS),),
        ),
    )
    failures = Failures(10, lambda: 0.0)
    key = SPEC.key("dem", 1, 2, 0)
    failures.note(key, FailedChunk(chunk=key.path, kind="source-corrupt", detail="broken"))
    downloads.failures = failures.kept
    downloads.in_flight = lambda _: current_thread() is main_thread()
    store = SimpleNamespace(index=Index(SPEC))
    with ThreadPoolExecutor(1) as pool:
        held = SimpleNamespace(collection=lambda _: store)
        picture = await Inventory(held, downloads, timeout=60.0, pool=pool).snapshot(view)
    assert list(picture.failed) == [(1, 2)]
    assert picture.counts[0][1, 2, ChunkState.FAILED] == 1


async def test_work_that_nobody_waits_for_keeps_its_turn_until_it_ends():
    begun, over = [], Event()

    def work(name):
        begun.append(name)
        over.wait(60)
        return name

    with ThreadPoolExecutor(4) as pool:
        try:
            inventory, loop = Inventory(None, None, timeout=60.0, pool=pool), asyncio.get_running_loop()
            tasks = [asyncio.create_task(inventory.work(work, name)) for name in "abc"]
            await asyncio.sleep(0)
            for task in tasks[:2]:
                task.cancel()
            await asyncio.wait(tasks[:2])
            await asyncio.sleep(0)
            await loop.run_in_executor(pool, int)  # what waited for a thread has one now
            assert sorted(begun) == ["a", "b"]
        finally:
            over.set()
        assert await asyncio.wait_for(tasks[2], 60) == "c"


# Rates


def test_rates_are_those_of_the_last_ten_seconds():
    now, done = [0.0], [0.0]
    pulse = ThroughputMonitor(lambda: Totals(blocks=done[0], bytes=1000 * done[0]), clock=lambda: now[0])
    assert pulse.rates == Totals(blocks=0, bytes=0)
    for _ in range(60):
        now[0] += 1
        done[0] += 3
        pulse.note()
    assert pulse.rates == Totals(blocks=3, bytes=3000)
    for _ in range(11):
        now[0] += 1
        pulse.note()
    assert pulse.rates == Totals(blocks=0, bytes=0)
    assert (pulse.total.blocks, pulse.uptime) == (180, 71)
