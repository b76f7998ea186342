"""The daemon without HTTP against a dictionary: loads, faults, crashes, restarts, damage, in any order.

Every load is the truth or a named error, and the index is what the repository says.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from icehouse_server.core.errors import (
    ChunksFailedError,
    NotCachedError,
    SourceCorruptError,
    SourceUnavailableError,
)
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region
from icehouse_server.downloads import Downloads, DownloadSettings, RetryPolicy, Supply
from icehouse_server.service import Ask, CoverageService, ServiceSettings
from icehouse_server.store import StoreSettings
from icehouse_server.store.index import Index
from icehouse_server.testing.fakes import ScriptedSource, Truth, tiny_spec, touches
from icehouse_server.testing.stores import open_store

SPEC = tiny_spec(rows=70, cols=90, chunk=32)
SHAPE = SPEC.grid.chunk_shape
TRUTH = Truth(spec=SPEC, void=frozenset({(0, 0), (2, 1)}))
PLACES = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1))
ERRORS = {
    "corrupt": lambda: SourceCorruptError("it does not decode", item="scene"),
    "away": lambda: SourceUnavailableError("503", item="scene"),
    "surprise": lambda: ValueError("surprise"),
}


@st.composite
def windows(draw):
    row, col = draw(st.integers(0, 69)), draw(st.integers(0, 89))
    return Window(
        row=row, col=col, height=draw(st.integers(1, 70 - row)), width=draw(st.integers(1, 90 - col))
    )


BANDS = st.sampled_from([("dem",), ("mask",), ("mask", "dem")])


class Machine(RuleBasedStateMachine):
    """One cache folder through its life: ``broken`` the source can't give, ``cached`` must be there."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="icehouse-machine-"))
        self.runner = asyncio.Runner()
        self.pool = ThreadPoolExecutor(2)
        self.lives = 0
        self.broken = {}
        self.cached = set()
        self.past = {}

    # Living and dying

    async def _open(self):
        self.life = AsyncExitStack()
        settings = StoreSettings(decoded_bytes=self.decoded, write_timeout=20)
        self.store = await self.life.enter_async_context(
            open_store(self.folder, [SPEC], settings, pool=self.pool)
        )
        self.collection = self.store.collections["tiny"]
        self.source = ScriptedSource(truth=TRUTH)
        self._script()
        self.downloads = Downloads(
            {"tiny": Supply(source=self.source, presence=self.collection.index, sink=self.collection)},
            DownloadSettings(block_side=2 * SPEC.grid.chunk, failure_ttl=0, retry=RetryPolicy(attempts=1)),
            pool=self.pool,
        )
        self.service = CoverageService(
            self.store, self.downloads, ServiceSettings(request_timeout=20, disk_floor=0), pool=self.pool
        )

    async def _close(self):
        await self.downloads.close()
        await self.life.aclose()

    def _script(self):
        self.source.faults = [touches(*place, ERRORS[kind]) for place, kind in self.broken.items()]

    @initialize(decoded=st.sampled_from([0, 20_000, 10**7]))
    def begin(self, decoded):
        self.decoded = decoded
        self.folder = self.root / "0"
        self.runner.run(self._open())

    @rule()
    def restart(self):
        self.runner.run(self._close())
        self.runner.run(self._open())

    @rule(window=windows(), bands=BANDS, turns=st.integers(0, 30))
    def crash(self, window, bands, turns):
        """The folder as it is in the midst of a load; the old daemon never gets to say goodbye to it."""

        async def copy():
            loading = asyncio.ensure_future(self._ask(window, bands))
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            copied = self.root / str(self.lives + 1)
            acknowledged = set(self.cached)
            if loading.done() and loading.exception() is None:
                acknowledged |= self._keys(window, bands)
            copy_as_a_crash_leaves_it(self.folder, copied)
            await asyncio.wait([loading])
            loading.exception()
            return acknowledged, copied

        acknowledged, copied = self.runner.run(copy())
        self.runner.run(self._close())
        self.lives += 1
        self.folder, self.cached = copied, acknowledged
        self.runner.run(self._open())

    # Asking

    def _keys(self, window, bands):
        under = SPEC.grid.chunks_under(window)
        return {
            SPEC.key(band, row, col)
            for band in bands
            for row in range(under.row, under.stop_row)
            for col in range(under.col, under.stop_col)
        }

    async def _ask(self, window, bands, **options):
        region = Region(collection=SPEC, bands=SPEC.select(bands), target=SPEC.grid.geobox_of(window))
        answer = await self.service.coverage(Ask(region=region, **options))
        answer.close()
        return answer.coverage

    def _check(self, coverage, window, bands, missing=frozenset()):
        for band in bands:
            spec = SPEC.band(band)
            expected = TRUTH.pixels(spec, window)
            for key in missing:
                common = SPEC.grid.chunk_window(key.row, key.col).intersection(window)
                if key.band == band and common is not None:
                    expected[common.slices(window)] = spec.fill
            np.testing.assert_array_equal(coverage.bands[band], expected)

    def _unfillable(self, window, bands):
        return {
            key
            for key in self._keys(window, bands)
            if (key.row, key.col) in self.broken and not self.collection.index.has(key)
        }

    @rule(window=windows(), bands=BANDS)
    def load(self, window, bands):
        unfillable = self._unfillable(window, bands)
        try:
            coverage = self.runner.run(self._ask(window, bands))
        except ChunksFailedError as error:
            assert unfillable
            named = {failure.chunk for failure in error.failed}
            assert {key.path for key in unfillable} <= named
        else:
            assert not unfillable
            self._check(coverage, window, bands)
            self.cached |= self._keys(window, bands)
            self.past[coverage.snapshot] = self.folder, window, bands

    @rule(window=windows(), bands=BANDS)
    def load_what_there_is(self, window, bands):
        unfillable = self._unfillable(window, bands)
        coverage = self.runner.run(self._ask(window, bands, fail_on_error=False))
        named = {failure.chunk for failure in coverage.failed}
        missing = {key for key in self._keys(window, bands) if key.path in named}
        assert unfillable <= missing
        self._check(coverage, window, bands, missing)
        self.cached |= self._keys(window, bands) - missing

    @rule(asks=st.lists(st.tuples(windows(), BANDS), min_size=2, max_size=5), leave=st.integers(0, 8))
    def load_together(self, asks, leave):
        async def together():
            tasks = [asyncio.ensure_future(self._ask(*ask)) for ask in asks]
            for turn in range(leave):
                await asyncio.sleep(0.0003)
                if turn == leave - 1:
                    tasks[0].cancel()  # somebody hangs up
            return await asyncio.gather(*tasks, return_exceptions=True)

        before = len(self.source.requests)
        for (window, bands), result in zip(asks, self.runner.run(together()), strict=True):
            if isinstance(result, ChunksFailedError | asyncio.CancelledError):
                continue
            assert not isinstance(result, BaseException), result
            self._check(result, window, bands)
            self.cached |= self._keys(window, bands)
        if not self.broken:
            reads = [key for request in self.source.requests[before:] for key in _keys_of(request)]
            assert len(reads) == len(set(reads)), "each chunk is fetched once"

    @rule(window=windows(), bands=BANDS)
    def load_only_if_cached(self, window, bands):
        asked = len(self.source.requests)
        try:
            coverage = self.runner.run(self._ask(window, bands, only_if_cached=True))
        except NotCachedError:
            assert not all(self.collection.index.has(key) for key in self._keys(window, bands))
        else:
            self._check(coverage, window, bands)
        assert len(self.source.requests) == asked

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def read_the_past(self, data):
        snapshot = data.draw(st.sampled_from(sorted(self.past)))
        folder, window, bands = self.past[snapshot]
        if folder == self.folder:
            self._check(self.runner.run(self._ask(window, bands, snapshot=snapshot)), window, bands)

    # What goes wrong

    @rule(place=PLACES, kind=st.sampled_from(sorted(ERRORS)))
    def an_item_breaks(self, place, kind):
        self.broken[place] = kind
        self._script()

    @rule()
    def the_source_recovers(self):
        self.broken.clear()
        self._script()

    @rule(place=PLACES, band=st.sampled_from(["dem", "mask"]))
    def a_chunk_is_forgotten(self, place, band):
        """As when it could not be read back. Its next load fetches and commits it again."""
        key = SPEC.key(band, *place)
        self.collection.forget([key])
        self.cached.discard(key)
        self.forgotten.add(key)

    @property
    def forgotten(self):
        if getattr(self, "_forgotten_by", None) is not self.collection:
            self._forgotten_by, self._forgotten = self.collection, set()
        return self._forgotten

    # What is always true

    @invariant()
    def nothing_acknowledged_is_lost_and_the_index_is_the_repository(self):
        if not hasattr(self, "collection"):
            return

        async def fresh():
            while self.downloads.running or self.downloads.queued:  # noqa: ASYNC110 - somebody hung up
                await asyncio.sleep(0.001)
            async with self.collection.lease() as lease:
                return await Index.load(SPEC, lease.session)

        stored, index = self.runner.run(fresh()), self.collection.index
        for band in SPEC.bands:
            for row in range(SHAPE[0]):
                for col in range(SHAPE[1]):
                    key = SPEC.key(band.name, row, col)
                    assert index.has(key) == stored.has(key) or (key in self.forgotten and stored.has(key))
                    assert index.has(key) or key not in self.cached
                    assert not index.is_void(key) or (row, col) in TRUTH.void
        assert self.collection.leases == 0
        assert self.service.budget.held == 0

    def teardown(self):
        if hasattr(self, "collection"):
            self.runner.run(self._close())
        self.runner.close()
        self.pool.shutdown()
        shutil.rmtree(self.root)


def copy_as_a_crash_leaves_it(folder, copied):
    """Copy what points to other files first: then all that it points to is there when its turn comes."""

    def copy(source, target):
        with contextlib.suppress(FileNotFoundError):  # a draft that has just got its name
            shutil.copy2(source, target)

    for collection in (folder / "collections").iterdir():
        target = copied / "collections" / collection.name
        target.mkdir(parents=True)
        pointers = [path.name for path in collection.iterdir() if path.is_file()]
        for name in pointers:
            copy(collection / name, target / name)
        shutil.copytree(
            collection,
            target,
            copy_function=copy,
            dirs_exist_ok=True,
            ignore=lambda at, _, top=collection, names=pointers: names if Path(at) == top else [],
        )


def _keys_of(request):
    under = SPEC.grid.chunks_under(request.window)
    return [
        (band.name, row, col)
        for band in request.bands
        for row in range(under.row, under.stop_row)
        for col in range(under.col, under.stop_col)
    ]


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=max(10, settings.default.max_examples // 8), stateful_step_count=18
)
