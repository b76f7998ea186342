"""The daemon without HTTP against a dictionary: whatever happens to it, in any order.

Loads, refreshes, drops, collection, eviction, all of these at once, sources and disks that fail, callers
that leave, crashes, restarts, damaged files. Every answer is the truth of some moment between its begin and
its end, or a named error, and the repository holds what was acknowledged.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import icechunk
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from icehouse_server.core.errors import (
    ChunksFailedError,
    DiskFullError,
    NotCachedError,
    StoreError,
    UnknownSnapshotError,
)
from icehouse_server.core.grid import Window
from icehouse_server.store import DamagedChunksError
from icehouse_server.store.disk_usage import folder_bytes
from icehouse_server.testing.fakes import keys_of, touches
from support.cache import SPECS, make_ledgers, open_cache, whole
from support.crash import UnrestError, copy_as_a_crash_leaves_it
from support.troubles import SOURCE_ERRORS, TROUBLES, spoil_chunk, spoil_notes, trouble

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
BANDS = st.sampled_from([("dem",), ("mask",), ("mask", "dem")])
TURN = 0.0004


@st.composite
def places_and_windows(draw):
    """A collection and a window of it."""
    name = draw(st.sampled_from(["tiny", "tiny", "other"]))
    rows, cols = SPECS[name].grid.shape
    row, col = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    height, width = draw(st.integers(1, rows - row)), draw(st.integers(1, cols - col))
    return name, Window(row=row, col=col, height=height, width=width)


@dataclass(frozen=True)
class Act:
    """Something that a caller does, some turns from now; the caller may leave some turns later."""

    what: str
    where: tuple[str, Window]
    bands: tuple[str, ...]
    after: int
    leaves: int | None


WHERE = places_and_windows()
PLACES = st.tuples(st.integers(0, 2), st.integers(0, 2))
ACTS = st.builds(
    Act,
    what=st.sampled_from(
        ["load", "load", "load", "refresh", "refresh", "change", "drop", "collect", "evict"]
    ),
    where=WHERE,
    bands=BANDS,
    after=st.integers(0, 12),
    leaves=st.one_of(st.none(), st.none(), st.integers(0, 20)),
)


@dataclass(eq=False)
class Pin:
    """A lease that a caller holds, and what it must give."""

    name: str
    stack: AsyncExitStack
    lease: object
    holds: dict


class Machine(RuleBasedStateMachine):
    """One cache folder through its life. ``broken`` is what the sources can't give."""

    def __init__(self):
        super().__init__()
        icechunk.set_logs_filter("error")
        self.root = Path(tempfile.mkdtemp(prefix="icehouse-machine-"))
        self.runner = asyncio.Runner()
        self.pool = ThreadPoolExecutor(2)
        self.lives = 0
        self.broken = {}
        self.pins = []
        self.past = {}
        """(collection, snapshot) -> what it holds, and whether it must be there."""
        self.spoilt = False
        self.ledgers = make_ledgers()

    # Living and dying

    async def _open(self):
        self.life = AsyncExitStack()
        opening = open_cache(
            self.folder, self.ledgers, pool=self.pool, decoded=self.decoded, unwanted=self.unwanted
        )
        self.cache = await self.life.enter_async_context(opening)
        self.cache.forgets_history = self._history_may_go
        await self._settle()

    async def _close(self):
        await self._unpin(self.pins)
        await self.life.aclose()

    async def _settle(self):
        await self.cache.settle(Counter(pin.name for pin in self.pins))
        for name, collection in self.cache.collections.items():
            self.past[name, collection.snapshot] = dict(self.ledgers[name].stored), True

    @initialize(decoded=st.sampled_from([0, 20_000, 10**7]), unwanted=st.sampled_from([0, 0.002, 30]))
    def begin(self, decoded, unwanted):
        self.decoded, self.unwanted = decoded, unwanted
        self.folder = self.root / "0"
        self.runner.run(self._open())

    @rule(notes=st.sampled_from(["kept", "lost", "cut", "garbage"]))
    def restart(self, notes):
        self.runner.run(self._close())
        spoil_notes(self.folder, notes)
        self.runner.run(self._open())

    @rule(acts=st.lists(ACTS, min_size=1, max_size=4), turns=st.integers(0, 40), sweep=st.booleans())
    def crash(self, acts, turns, sweep):
        """The folder as it is at some moment; the old daemon never gets to say goodbye to it."""
        copied = self.root / str(self.lives + 1)

        async def copy():
            tasks = [asyncio.ensure_future(self._act(act)) for act in acts]
            await asyncio.sleep(turns * TURN)
            while True:
                reported = [
                    (dict(ledger.floor), set(ledger.acknowledged)) for ledger in self.ledgers.values()
                ]
                try:
                    copy_as_a_crash_leaves_it(self.folder, copied)
                    break
                except UnrestError:
                    await asyncio.sleep(TURN)
            await asyncio.gather(*tasks)
            await self._close()
            for ledger, (floor, acknowledged) in zip(self.ledgers.values(), reported, strict=True):
                ledger.floor, ledger.acknowledged = floor, acknowledged

        async def live():
            await self._open()
            if sweep:
                await self.cache.store.maintenance.run_once()
                assert not [path for path in self.folder.rglob("*#*") if path.is_file()]

        self.runner.run(copy())
        self.lives += 1
        self.folder = copied
        self.runner.run(live())

    # What a caller may do

    def _history_may_go(self, name):
        for (owner, snapshot), (holds, _) in self.past.items():
            if owner == name:
                self.past[owner, snapshot] = holds, False

    async def _act(self, act):
        """Do it next to others; errors that these can cause are as good as an answer."""
        await asyncio.sleep(act.after * TURN)
        work = asyncio.ensure_future(self._work_of(act))
        if act.leaves is not None:
            await asyncio.sleep(act.leaves * TURN)
            work.cancel()
        with suppress(ChunksFailedError, DiskFullError, StoreError, asyncio.CancelledError):
            await work

    async def _work_of(self, act):
        name, window = act.where
        keys = self.ledgers[name].keys_under(window, act.bands)
        match act.what:
            case "load":
                await self.cache.load(name, window, act.bands)
            case "refresh":
                if act.after % 2:
                    self._change({(key.row, key.col) for key in keys}, name)
                await self.cache.refresh(name, keys)
            case "change":
                self._change({(key.row, key.col) for key in keys}, name)
            case "drop":
                await self.cache.drop(name, keys)
            case "collect":
                await self.cache.collect(name, 0)
            case "evict":
                await self.cache.evict(0.8)

    def _change(self, places, name):
        for place in places:
            self.ledgers[name].truth.change(place)

    def _quietly(self, work):
        """Do one thing alone."""

        async def run():
            try:
                return await work
            finally:
                await self._settle()

        return self.runner.run(run())

    @rule(acts=st.lists(ACTS, min_size=2, max_size=7))
    def all_at_once(self, acts):
        self._quietly(asyncio.wait_for(self._together(acts), 60))

    @rule(
        acts=st.lists(ACTS, min_size=1, max_size=5),
        name=st.sampled_from(sorted(TROUBLES)),
        number=st.integers(1, 4),
    )
    def all_at_once_in_trouble(self, acts, name, number):
        async def run():
            with trouble(self.cache, name, number):
                await asyncio.wait_for(self._together(acts), 60)

        self._quietly(run())

    @precondition(lambda self: not self.broken and not self.spoilt)
    @rule(asks=st.lists(st.tuples(WHERE, BANDS), min_size=2, max_size=5))
    def loads_at_once_fetch_each_chunk_once(self, asks):
        async def run():
            await asyncio.gather(*(self.cache.load(*where, bands) for where, bands in asks))

        sources = {name: ledger.source for name, ledger in self.ledgers.items()}
        before = {name: len(source.requests) for name, source in sources.items()}
        self._quietly(run())
        for name, source in sources.items():
            reads = Counter(key for request in source.requests[before[name] :] for key in keys_of(request))
            assert max(reads.values(), default=0) <= 1, reads

    async def _together(self, acts):
        await asyncio.gather(*(self._act(act) for act in acts))

    # Alone: what comes of it is known

    def _unfillable(self, name, keys):
        """Chunks that can't be given: certainly, and perhaps (they may be decoded still)."""
        ledger = self.ledgers[name]
        broken = {key for key in keys if (key.row, key.col) in self.broken}
        return {key for key in broken if key not in ledger.stored}, broken & (
            keys - ledger.stored.keys() | ledger.damaged
        )

    @rule(where=WHERE, bands=BANDS)
    def load(self, where, bands):
        certain, perhaps = self._unfillable(where[0], self.ledgers[where[0]].keys_under(where[1], bands))
        try:
            self._quietly(self.cache.load(*where, bands))
        except ChunksFailedError as error:
            failed = {failure.chunk for failure in error.failed}
        else:
            failed = set()
        assert {key.path for key in certain} <= failed
        assert perhaps or not failed

    @rule(where=WHERE, bands=BANDS)
    def load_what_there_is(self, where, bands):
        certain, perhaps = self._unfillable(where[0], self.ledgers[where[0]].keys_under(where[1], bands))
        missing = self._quietly(self.cache.load(*where, bands, fail_on_error=False))
        assert {key.path for key in certain} <= missing
        assert perhaps or not missing

    @rule(where=WHERE, bands=BANDS)
    def load_only_if_cached(self, where, bands):
        ledger = self.ledgers[where[0]]
        keys, asked = ledger.keys_under(where[1], bands), len(ledger.source.requests)
        try:
            self._quietly(self.cache.load(*where, bands, only_if_cached=True))
        except NotCachedError:
            assert keys - ledger.stored.keys() | keys & ledger.damaged
        assert len(ledger.source.requests) == asked

    @rule(where=WHERE, bands=BANDS, change=st.booleans())
    def refresh(self, where, bands, change):
        name, window = where
        keys = self.ledgers[name].keys_under(window, bands)
        if change:
            self._change({(key.row, key.col) for key in keys}, name)
        before = dict(self.ledgers[name].stored)
        failed = self._quietly(self.cache.refresh(name, keys))
        broken = {key for key in keys if (key.row, key.col) in self.broken}
        assert {key.path for key in broken} <= failed
        assert broken or not failed
        after = self.ledgers[name].stored
        assert all(after.get(key) == before.get(key) for key in keys if key.path in failed)

    @rule(where=WHERE, bands=BANDS)
    def drop(self, where, bands):
        name, window = where
        ledger = self.ledgers[name]
        keys = ledger.keys_under(window, bands)
        there = {key for key in keys if self.cache.collections[name].index.has(key)}
        before = set(ledger.stored)
        assert self._quietly(self.cache.drop(name, keys)) == len(there)
        assert set(ledger.stored) == before - there

    @rule(name=st.sampled_from(sorted(SPECS)), keep=st.sampled_from([0, 0, 3600]))
    def collect(self, name, keep):
        collection = self.cache.collections[name]
        self._quietly(self.cache.collect(name, keep))
        if keep == 0 and not collection.leases:

            async def alive():
                return (await collection.head.repository.chunk_storage_stats_async()).native_bytes

            held, needed = folder_bytes(collection.folder / "chunks"), self.runner.run(alive())
            assert held <= needed if self.spoilt else held == needed

    @rule(share=st.floats(0.2, 1.2))
    def evict(self, share):
        before = {key for ledger in self.ledgers.values() for key in ledger.stored}
        counted = self.cache.store.maintenance.counters.evicted
        limit = self._quietly(self.cache.evict(share))
        after = {key for ledger in self.ledgers.values() for key in ledger.stored}
        assert after <= before
        assert len(before - after) == self.cache.store.maintenance.counters.evicted - counted
        if share >= 1.1:
            assert after == before
        if not self.pins and any(len(collection.index) for collection in self.cache.collections.values()):
            assert self.cache.on_disk <= limit

    # The past, and those who hold on to it

    @precondition(lambda self: len(self.pins) < 3)
    @rule(name=st.sampled_from(sorted(SPECS)))
    def pin(self, name):
        self.runner.run(self._pin(name))

    async def _pin(self, name):
        stack = AsyncExitStack()
        lease = await stack.enter_async_context(self.cache.collections[name].lease())
        self.pins.append(Pin(name, stack, lease, dict(self.ledgers[name].stored)))
        return self.pins[-1]

    @precondition(lambda self: self.pins)
    @rule(which=st.integers(0, 2))
    def unpin(self, which):
        self.runner.run(self._unpin([self.pins[which % len(self.pins)]]))

    async def _unpin(self, pins):
        for pin in list(pins):
            await pin.stack.aclose()
            self.pins.remove(pin)

    @rule(
        name=st.sampled_from(sorted(SPECS)),
        acts=st.lists(ACTS, min_size=1, max_size=4),
        turns=st.integers(0, 80),
    )
    def a_reader_is_overtaken(self, name, acts, turns):
        """He reads what he has pinned, while others change it, or when they have."""

        async def read():
            pin = await self._pin(name)
            try:
                others = asyncio.ensure_future(self._together(acts))
                await asyncio.sleep(turns * TURN)
                await self._read_pinned(pin)
                await others
                await self._read_pinned(pin)
            finally:
                await self._unpin([pin])

        self._quietly(read())

    @precondition(lambda self: self.pins)
    @rule(acts=st.lists(ACTS, max_size=3))
    def those_who_hold_on_read_what_they_held(self, acts):
        async def read():
            others = asyncio.ensure_future(self._together(acts))
            for pin in self.pins:
                await self._read_pinned(pin)
            await others

        self._quietly(read())

    async def _read_pinned(self, pin):
        for band in SPECS[pin.name].bands:
            keys = [key for key in pin.holds if key.band == band.name]
            try:
                got = await self.cache.collections[pin.name].read(pin.lease, band, whole(pin.name), keys)
            except DamagedChunksError:
                assert self.spoilt
                continue
            self._check_past({band.name: got}, whole(pin.name), {key: pin.holds[key] for key in keys})

    def _check_past(self, bands, window, holds):
        for key, version in holds.items():
            truth = self.ledgers[key.collection].truth
            area = SPECS[key.collection].grid.chunk_window(key.row, key.col)
            common = area.intersection(window)
            np.testing.assert_array_equal(
                bands[key.band][common.slices(window)], truth.chunk(key, version)[common.slices(area)]
            )

    @rule(which=st.integers(0, 50), where=WHERE, bands=BANDS)
    def read_the_past(self, which, where, bands):
        name, window = where
        snapshots = [snapshot for owner, snapshot in self.past if owner == name]
        snapshot = snapshots[-1 - which % len(snapshots)]
        holds, certain = self.past[name, snapshot]
        keys = self.ledgers[name].keys_under(window, bands)
        try:
            self._quietly(self._load_the_past(name, window, bands, snapshot))
        except UnknownSnapshotError:
            assert not certain
            del self.past[name, snapshot]
        except NotCachedError:
            assert self.spoilt or keys - holds.keys()
        except DamagedChunksError:
            assert self.spoilt
        else:
            assert keys <= holds.keys()

    async def _load_the_past(self, name, window, bands, snapshot):
        answer = await self.cache.service.coverages.coverage(
            self.cache.ask(name, window, bands, snapshot=snapshot)
        )
        answer.close()
        holds = self.past[name, snapshot][0]
        keys = self.ledgers[name].keys_under(window, bands)
        self._check_past(answer.coverage.bands, window, {key: holds[key] for key in keys})

    # What goes wrong

    @rule(place=PLACES, kind=st.sampled_from(sorted(SOURCE_ERRORS)))
    def an_item_breaks(self, place, kind):
        self.broken[place] = kind
        self._script()

    @rule()
    def the_source_recovers(self):
        self.broken.clear()
        self._script()

    def _script(self):
        for ledger in self.ledgers.values():
            ledger.source.faults = [
                touches(*place, SOURCE_ERRORS[kind]) for place, kind in self.broken.items()
            ]

    @rule(where=WHERE)
    def the_source_changes(self, where):
        name, window = where
        self._change({(key.row, key.col) for key in self.ledgers[name].keys_under(window, ("dem",))}, name)

    @rule(
        name=st.sampled_from(sorted(SPECS)),
        which=st.floats(0, 0.99),
        where=st.floats(0, 0.99),
        cut=st.booleans(),
        decoded=st.booleans(),
    )
    def a_chunk_file_is_spoilt(self, name, which, where, cut, decoded):
        spoiling = spoil_chunk(self.cache, name, which, where, cut=cut, decoded=decoded)
        self.spoilt |= self.runner.run(spoiling)

    def teardown(self):
        if hasattr(self, "cache"):
            self.runner.run(self._close())
        self.runner.close()
        self.pool.shutdown()
        shutil.rmtree(self.root)


TestMachine = Machine.TestCase
# A day of it takes seconds: few in the quick profile, as the long ones and `make soak` look for what is rare.
_DAYS = 8 if settings.default.max_examples <= 100 else settings.default.max_examples * 2 // 5
TestMachine.settings = settings(max_examples=_DAYS, stateful_step_count=30)
