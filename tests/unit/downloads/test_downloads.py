"""Downloads: one flight a chunk, a fair and bounded queue, failures that stay local and have names."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.errors import (
    BusyError,
    DiskFullError,
    ShuttingDownError,
    SourceCorruptError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
    TooLargeError,
)
from icehouse_server.core.ports import BandBlock, Block
from icehouse_server.downloads import CollectionPipeline, Downloads, DownloadSettings, Priority, RetryPolicy
from icehouse_server.testing.fakes import MemorySink, ScriptedSource, Truth, keys_of, tiny_spec, touches

SPEC, OTHER = tiny_spec(), tiny_spec("other")
VOID = frozenset({(0, 0), (2, 3)})
QUICK = RetryPolicy(attempts=4, budget=5, first_wait=0.001, longest_wait=0.01, block_timeout=5)
LONG = 20.0


@dataclass
class Bench:
    downloads: Downloads
    source: ScriptedSource
    sink: MemorySink
    other: ScriptedSource
    clock: list[float]

    async def ensure(self, keys, *, timeout=LONG, spec=SPEC, **options):  # noqa: ASYNC109
        return await self.downloads.ensure(spec, list(keys), timeout=timeout, **options)

    def begin(self, keys, **options):
        return asyncio.ensure_future(self.ensure(keys, **options))


@asynccontextmanager
async def bench(pool, **options):
    chosen = DownloadSettings(**{"retry": QUICK, "block_side": 2 * SPEC.grid.chunk, **options})
    source, other = ScriptedSource(truth=Truth(spec=SPEC, void=VOID)), ScriptedSource(truth=Truth(spec=OTHER))
    sink, second, clock = MemorySink(), MemorySink(), [0.0]
    supplies = {
        "tiny": CollectionPipeline(source=source, presence=sink, sink=sink),
        "other": CollectionPipeline(source=other, presence=second, sink=second),
    }
    downloads = Downloads(supplies, chosen, pool=pool, clock=lambda: clock[0])
    try:
        yield Bench(downloads, source, sink, other, clock)
    finally:
        for one in (source, other):
            if one.gate is not None:
                one.gate.set()
        await asyncio.wait_for(downloads.close(), 10)


def chunk(row, col, band="dem", spec=SPEC):
    return spec.key(band, row, col)


def square(side, row=0, col=0, band="dem", spec=SPEC):
    return [chunk(r, c, band, spec) for r in range(row, row + side) for c in range(col, col + side)]


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def settle():
    """Let everything go as far as it can without a thread or a clock."""
    for _ in range(100):
        await asyncio.sleep(0)


# One flight


async def test_many_who_ask_at_once_cause_one_fetch(pool):
    async with bench(pool) as b:
        b.source.gate = asyncio.Event()
        asks = [b.begin(square(4)) for _ in range(20)]
        await until(lambda: b.source.under_way)
        b.source.gate.set()
        results = await asyncio.gather(*asks)
        assert all(not result.failed for result in results)
        assert set(b.source.reads.values()) == {1}
        assert len(b.source.reads) == 16
        assert sum(result.started for result in results) == 16
        assert sum(result.joined for result in results) == 19 * 16
        assert not any(b.downloads.in_flight(key) for key in square(4))


@settings(max_examples=30)
@given(
    asks=st.lists(
        st.lists(
            st.tuples(st.sampled_from(["dem", "mask"]), st.integers(0, 4), st.integers(0, 4)), max_size=12
        ),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 999),
)
async def test_overlapping_requests_fetch_each_chunk_once_and_rightly(pool, asks, seed):
    """Also where a request lists a chunk twice."""
    rng = random.Random(seed)
    async with bench(
        pool, blocks_per_collection=rng.choice([1, 3]), block_side=rng.choice([1, 2, 5]) * SPEC.grid.chunk
    ) as b:

        async def one(places):
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            return await b.ensure([chunk(row, col, band) for band, row, col in places])

        results = await asyncio.gather(*(one(places) for places in asks))
        wanted = {chunk(row, col, band) for places in asks for band, row, col in places}
        assert set(b.sink.chunks) == wanted
        assert set(b.source.reads.values()) <= {1}
        assert sum(result.started for result in results) == len(wanted)
        assert all(result.joined >= 0 and not result.failed for result in results)
        for key, filled in b.sink.chunks.items():
            area = SPEC.grid.chunk_window(key.row, key.col)
            band = SPEC.band(key.band)
            expected = np.full((16, 16), band.fill, band.dtype)
            expected[: area.height, : area.width] = b.source.truth.pixels(band, area)
            np.testing.assert_array_equal(filled.values, expected)
            assert filled.void == ((key.row, key.col) in VOID)


async def test_what_is_there_costs_nothing(pool):
    async with bench(pool) as b:
        await b.ensure(square(2))
        again = await b.ensure(square(3))
        assert (again.started, again.joined) == (5, 0)
        assert set(b.source.reads.values()) == {1}
        assert await b.ensure([]) == await b.ensure(square(2))


async def test_chunks_at_the_edge_are_whole_and_void_ones_flagged(pool):
    async with bench(pool) as b:
        await b.ensure([chunk(9, 12), chunk(0, 0), chunk(0, 1)])
        corner = b.sink.chunks[chunk(9, 12)]
        assert corner.values.shape == (16, 16)
        assert (corner.values[6:] == SPEC.bands[0].fill).all()
        assert (corner.values[:, 8:] == SPEC.bands[0].fill).all()
        assert [b.sink.chunks[chunk(0, col)].void for col in (0, 1)] == [True, False]
        assert b.sink.chunks[chunk(0, 0)].provenance == ()
        assert b.sink.chunks[chunk(0, 1)].provenance
        assert corner.values.base is None, "a view would hold the whole block in memory"


# Failures


def bad(item="scene", kind=SourceCorruptError):
    return lambda: kind("it does not decode", item=item)


async def test_a_bad_item_fails_those_who_need_it_and_nobody_else(pool):
    async with bench(pool, block_side=64) as b:
        b.source.faults.append(touches(1, 1, bad()))
        needs, needs_not = await asyncio.gather(b.ensure(square(4)), b.ensure([chunk(0, 3), chunk(3, 0)]))
        assert [failure.chunk for failure in needs.failed] == ["dem/c/1/1"]
        assert (needs.failed[0].kind, needs.failed[0].item) == ("source-corrupt", "scene")
        assert needs_not.failed == ()
        assert set(b.sink.chunks) == set(square(4)) - {chunk(1, 1)}, "the rest of its block landed"


async def test_failures_come_in_the_order_asked_for(pool):
    async with bench(pool) as b:
        for row, col in ((0, 1), (2, 2), (5, 0)):
            b.source.faults.append(touches(row, col, bad(f"s{row}")))
        asked = [chunk(5, 0), chunk(0, 1), chunk(3, 3), chunk(2, 2)]
        result = await b.ensure(asked)
        assert [failure.chunk for failure in result.failed] == [asked[n].path for n in (0, 1, 3)]


async def test_only_transient_errors_are_tried_again(pool):
    async with bench(pool) as b:
        b.source.faults = [
            touches(0, 0, lambda: SourceUnavailableError("503"), times=2),
            touches(4, 4, bad(kind=SourceRefusedError)),
            touches(8, 8, lambda: SourceTimeoutError("late")),
        ]
        assert not (await b.ensure([chunk(0, 0)])).failed
        assert b.source.reads[chunk(0, 0)] == 3
        assert (await b.ensure([chunk(4, 4)])).failed[0].kind == "source-refused"
        assert b.source.reads[chunk(4, 4)] == 1
        assert (await b.ensure([chunk(8, 8)])).failed[0].kind == "source-timeout"
        assert b.source.reads[chunk(8, 8)] == QUICK.attempts


async def test_retry_after_is_waited_for(pool):
    async with bench(pool) as b:
        times = []
        fault = touches(0, 0, lambda: SourceUnavailableError("429", retry_after=0.3), times=1)
        b.source.faults = [lambda _: times.append(asyncio.get_running_loop().time()), fault]
        assert not (await b.ensure([chunk(0, 0)])).failed
        assert times[1] - times[0] >= 0.3


async def test_a_retry_after_beyond_the_budget_is_not_waited_for(pool):
    async with bench(pool, retry=replace(QUICK, budget=1)) as b:
        b.source.faults = [touches(0, 0, lambda: SourceUnavailableError("429", retry_after=3600))]
        result = await b.ensure([chunk(0, 0)], timeout=5)
        assert result.failed[0].kind == "source-unavailable"
        assert b.source.reads[chunk(0, 0)] == 1


async def test_the_budget_ends_the_tries(pool):
    async with bench(pool, retry=replace(QUICK, attempts=1000, budget=0.2, first_wait=0.05)) as b:
        b.source.faults = [touches(0, 0, lambda: SourceUnavailableError("503"))]
        begun = asyncio.get_running_loop().time()
        assert (await b.ensure([chunk(0, 0)])).failed[0].kind == "source-unavailable"
        assert asyncio.get_running_loop().time() - begun < 30
        assert b.source.reads[chunk(0, 0)] < 50


async def test_a_source_that_never_answers_is_a_timeout(pool):
    async with bench(pool, retry=replace(QUICK, attempts=2, block_timeout=0.05)) as b:
        b.source.gate = asyncio.Event()
        result = await b.ensure(square(2))
        assert {failure.kind for failure in result.failed} == {"source-timeout"}
        assert len(result.failed) == 4
        assert b.downloads.snapshot().running == 0


async def test_a_failed_chunk_is_left_alone_for_a_while(pool):
    async with bench(pool, failure_ttl=10) as b:
        b.source.faults = [touches(0, 0, bad(), times=1)]
        first = await b.ensure([chunk(0, 0)])
        b.clock[0] = 9.9
        second = await b.ensure([chunk(0, 0)])
        assert first.failed == second.failed
        assert (second.started, second.joined) == (0, 0)
        assert b.source.reads[chunk(0, 0)] == 1
        b.clock[0] = 10.1
        assert not (await b.ensure([chunk(0, 0)])).failed
        assert b.source.reads[chunk(0, 0)] == 2


async def test_sink_error_fails_the_chunk_without_another_read(pool):
    async with bench(pool) as b:
        b.sink.faults = [lambda _: DiskFullError("full")]
        result = await b.ensure(square(2))
        assert {failure.kind for failure in result.failed} == {"disk-full"}
        assert set(b.source.reads.values()) == {1}


class Panic(BaseException):
    """As Rust panics come through PyO3."""


def wrong(change):
    """A fault that gives the truth with something wrong about it."""

    def fault(request):
        shape = (request.window.height, request.window.width)
        values, valid = np.ones(shape, "float32"), np.ones(shape, bool)
        return Block(
            bands={"dem": BandBlock(**{"values": values, "valid": valid, **change(shape)})}, provenance=()
        )

    return fault


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(lambda _: ValueError("surprise"), "source-failed", id="another exception"),
        pytest.param(lambda _: TimeoutError(), "source-timeout", id="a bare timeout"),
        pytest.param(lambda _: MemoryError(), "busy", id="no memory"),
        pytest.param(lambda _: Panic("index out of bounds"), "source-failed", id="a panic"),
        pytest.param(lambda _: Block(bands={}, provenance=()), "source-corrupt", id="no band"),
        pytest.param(
            wrong(lambda s: {"values": np.ones((s[0], s[1] - 1), "f4")}), "source-corrupt", id="narrow"
        ),
        pytest.param(wrong(lambda s: {"values": np.ones((1, *s), "f4")}), "source-corrupt", id="three axes"),
        pytest.param(wrong(lambda s: {"values": np.ones(s, "f8")}), "source-corrupt", id="dtype"),
        pytest.param(wrong(lambda s: {"values": np.ones(s, ">f4")}), "source-corrupt", id="byte order"),
        pytest.param(wrong(lambda _: {"valid": np.ones((1, 1), bool)}), "source-corrupt", id="mask shape"),
        pytest.param(wrong(lambda s: {"valid": np.full(s, np.nan)}), "source-corrupt", id="mask dtype"),
        pytest.param(wrong(lambda _: {"values": [[1.0]]}), "source-failed", id="no array"),
    ],
)
async def test_whatever_a_source_does_is_a_named_failure(pool, fault, kind):
    async with bench(pool) as b:
        b.source.faults = [fault]
        result = await asyncio.wait_for(b.ensure([chunk(0, 1), chunk(1, 1)]), LONG)
        assert [failure.kind for failure in result.failed] == [kind, kind]
        assert not b.sink.chunks
        assert b.downloads.snapshot().running == 0
        b.source.faults, b.clock[0] = [], 100.0
        assert not (await b.ensure([chunk(0, 1)])).failed, "and the next one is served"


# The queue


async def test_a_full_queue_refuses_all_or_nothing(pool):
    async with bench(pool, max_queued_blocks=3, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        first = b.begin([chunk(9, 9)])
        await until(lambda: b.source.under_way)
        second = b.begin(square(2)[:2])
        await until(lambda: b.downloads.snapshot().queued == 2)
        with pytest.raises(BusyError) as caught:
            await b.ensure(square(2, 4, 4)[:2])
        assert caught.value.retry_after > 0
        assert b.downloads.snapshot().queued == 2
        assert not any(b.downloads.in_flight(key) for key in square(2, 4, 4))
        joining = b.begin([*square(2)[:2], chunk(9, 9)])  # what is under way may be joined, full or not
        third = b.begin([chunk(4, 4)])
        await until(lambda: b.downloads.snapshot().queued == 3)
        fourth = b.begin([*square(2)[:2], chunk(4, 4)])
        await settle()
        b.source.gate.set()
        for result in await asyncio.gather(first, second, joining, third, fourth):
            assert not result.failed


async def test_more_than_the_whole_queue_is_too_large_and_not_busy(pool):
    """Else its caller would come back for ever."""
    async with bench(pool, max_queued_blocks=3, block_side=16) as b:
        with pytest.raises(TooLargeError) as caught:
            await b.ensure(square(2))
        assert (caught.value.limit, caught.value.asked, caught.value.setting) == (3, 4, "max_queued_blocks")


async def test_a_full_queue_is_full_for_those_who_filled_it(pool):
    """A collection whose source hangs fills the queue; another still has its share of it."""
    async with bench(
        pool, max_queued_blocks=6, blocks_per_collection=1, blocks_at_once=2, block_side=16
    ) as b:
        b.source.gate = asyncio.Event()
        stuck = b.begin(square(3)[:6])
        await until(lambda: b.source.under_way)
        more = b.begin([chunk(9, 9)])
        await until(lambda: b.downloads.snapshot().queued == 6)
        with pytest.raises(BusyError):
            await b.ensure([chunk(9, 8)])
        assert not (await b.ensure(square(2, spec=OTHER)[:3], spec=OTHER)).failed
        with pytest.raises(BusyError):
            await b.ensure(square(2, 4, 4, spec=OTHER), spec=OTHER)
        b.source.gate.set()
        await asyncio.gather(stuck, more)


async def test_retry_after_is_true(pool):
    """Who comes back after as many seconds as were named gets in, at the pace measured before; 60 at most."""
    async with bench(pool, max_queued_blocks=4, blocks_per_collection=1, block_side=16) as b:
        for second, key in enumerate(square(3)):  # a block each two seconds
            b.clock[0] = 2.0 * second
            await b.ensure([key])
        b.source.gate = asyncio.Event()
        waiting = [b.begin([chunk(9, col)]) for col in range(5)]
        await until(lambda: b.downloads.snapshot().queued == 4)
        with pytest.raises(BusyError) as caught:
            await b.ensure(square(2, 4, 4)[:3])
        assert caught.value.retry_after == 6, "three blocks must go before three more fit"
        for _ in range(3):
            b.clock[0] += 2.0
            before = b.downloads.snapshot().counts.blocks_fetched
            await until(lambda: b.source.gate._waiters)
            one, b.source.gate = b.source.gate, asyncio.Event()
            one.set()
            await until(lambda before=before: b.downloads.snapshot().counts.blocks_fetched > before)
        last = b.begin(square(2, 4, 4)[:3])
        await settle()
        b.source.gate.set()
        b.source.gate = None
        for result in await asyncio.gather(last, *waiting):
            assert not result.failed


async def test_retry_after_is_long_where_nothing_moves(pool):
    async with bench(pool, max_queued_blocks=2, blocks_per_collection=1, block_side=16) as b:
        await b.ensure([chunk(8, 8)])
        await b.ensure([chunk(8, 9)])
        b.source.gate = asyncio.Event()
        waiting = [b.begin([chunk(9, col)]) for col in range(3)]
        await until(lambda: b.downloads.snapshot().queued == 2)
        b.clock[0] += 500.0
        with pytest.raises(BusyError) as caught:
            await b.ensure([chunk(4, 4)])
        assert caught.value.retry_after == 60
        b.source.gate.set()
        await asyncio.gather(*waiting)


async def test_blocks_that_nobody_wants_any_more_do_not_fill_the_queue(pool):
    async with bench(pool, max_queued_blocks=3, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        first = b.begin([chunk(9, 9)])
        await until(lambda: b.source.under_way)
        for _ in range(5):
            gone = b.begin(square(2)[:3])
            await settle()
            gone.cancel()
            await asyncio.wait([gone])
            assert gone.cancelled()
        b.source.gate.set()
        assert not (await first).failed
        assert set(b.source.reads) == {chunk(9, 9)}


async def test_disconnect_drops_what_has_not_begun_and_keeps_the_rest(pool):
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        ask = b.begin(square(2))
        shared = b.begin([chunk(1, 1)])
        await until(lambda: b.source.under_way)
        ask.cancel()
        await asyncio.wait([ask])
        assert b.downloads.snapshot().queued == 1, "the slots of what no caller wants are free at once"
        b.source.gate.set()
        assert not (await shared).failed
        await until(lambda: b.downloads.snapshot().running == 0)
        assert set(b.sink.chunks) == {chunk(0, 0), chunk(1, 1)}
        assert not (await b.ensure(square(2))).failed, "and may come back"
        assert set(b.source.reads.values()) == {1}


async def test_who_comes_back_for_a_dropped_chunk_gets_it(pool):
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        first = b.begin([chunk(9, 9)])
        await until(lambda: b.source.under_way)
        gone = b.begin([chunk(0, 1)])
        await settle()
        gone.cancel()
        await asyncio.wait([gone])
        back = b.begin([chunk(0, 1)])
        await settle()
        b.source.gate.set()
        assert not (await asyncio.wait_for(back, 5)).failed
        await first
        assert b.source.reads[chunk(0, 1)] == 1


async def test_a_deadline_ends_the_wait_not_the_fetch(pool):
    async with bench(pool) as b:
        b.source.gate = asyncio.Event()
        result = await b.ensure(square(2), timeout=0.05)
        assert {failure.kind for failure in result.failed} == {"deadline-exceeded"}
        assert len(result.failed) == 4
        b.source.gate.set()
        assert not (await b.ensure(square(2))).failed
        assert set(b.source.reads.values()) == {1}


def order_of(source):
    """First chunk of each read, in the order of the reads."""
    return [next(keys_of(request)) for request in source.requests]


async def test_small_request_precedes_the_tenth_block_of_a_large_one(pool):
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        large = b.begin([chunk(row, 0) for row in range(10)])
        await until(lambda: b.source.under_way)
        small = b.begin([chunk(5, 5)])
        await settle()
        b.source.gate.set()
        await asyncio.gather(large, small)
        assert order_of(b.source).index(chunk(5, 5)) <= 2


async def test_prefetching_goes_last(pool):
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        first = b.begin([chunk(9, 9)])
        await until(lambda: b.source.under_way)
        ahead = b.begin([chunk(0, 1)], priority=Priority.PREFETCH)
        await settle()
        now = b.begin([chunk(row, 5) for row in range(5)])
        await settle()
        b.source.gate.set()
        await asyncio.gather(first, ahead, now)
        assert order_of(b.source)[-1] == chunk(0, 1)


async def test_bounds_hold_and_a_slow_collection_blocks_no_other(pool):
    async with bench(pool, blocks_per_collection=3, blocks_at_once=4, block_side=16) as b:
        b.source.gate = asyncio.Event()
        slow = b.begin(square(5))
        await until(lambda: b.source.under_way == 2)
        quick = await b.ensure(square(4, spec=OTHER), spec=OTHER)
        assert not quick.failed
        assert b.other.most_under_way == 1, "half of the two places that are left of four"
        b.source.gate.set()
        assert not (await slow).failed
        assert b.source.most_under_way == 2


# Who goes first


async def test_joining_a_prefetched_block_raises_its_priority(pool):
    """Priority inversion: a chunk that a caller waits for goes by the best priority of those who do."""
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        first = b.begin([chunk(9, 9)])
        await until(lambda: b.source.under_way)
        ahead = b.begin([chunk(0, col) for col in range(4)], priority=Priority.PREFETCH)
        now = b.begin([chunk(5, col) for col in range(3)])
        await until(lambda: b.downloads.snapshot().queued == 7)
        joins = b.begin([chunk(0, 3)])
        await settle()
        b.source.gate.set()
        await asyncio.gather(first, ahead, now, joins)
        order = order_of(b.source)
        assert order.index(chunk(0, 3)) <= 2
        assert set(order[-3:]) == {chunk(0, 0), chunk(0, 1), chunk(0, 2)}


async def test_joining_the_end_of_a_large_request_skips_its_middle(pool):
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        large = b.begin([chunk(row, 0) for row in range(10)])
        await until(lambda: b.source.under_way)
        small = b.begin([chunk(9, 0)])
        await settle()
        b.source.gate.set()
        await asyncio.gather(large, small)
        assert order_of(b.source).index(chunk(9, 0)) <= 2


# Isolation


async def test_collections_whose_sources_hang_stop_no_other(pool):
    """Three take what they get and never end; the fourth begins at once, and gets all that it asked for."""
    specs = [tiny_spec(f"c{n}") for n in range(4)]
    sources = [ScriptedSource(truth=Truth(spec=spec)) for spec in specs]
    sinks = [MemorySink() for _ in specs]
    supplies = {
        spec.id: CollectionPipeline(source=source, presence=sink, sink=sink)
        for spec, source, sink in zip(specs, sources, sinks, strict=True)
    }
    downloads = Downloads(supplies, DownloadSettings(retry=QUICK, block_side=16), pool=pool)
    gate = asyncio.Event()
    for source in sources[:3]:
        source.gate = gate
    stuck = [
        asyncio.ensure_future(downloads.ensure(spec, square(5, spec=spec), timeout=LONG))
        for spec in specs[:3]
    ]
    await until(lambda: sources[2].under_way)
    assert [source.under_way for source in sources[:3]] == [8, 4, 2]
    result = await asyncio.wait_for(downloads.ensure(specs[3], square(5, spec=specs[3]), timeout=LONG), LONG)
    assert not result.failed
    assert downloads.snapshot().running == 14
    gate.set()
    for ended in await asyncio.gather(*stuck):
        assert not ended.failed
    assert sources[0].most_under_way == 8
    await downloads.close()


async def test_one_collection_alone_has_all_places(pool):
    source, sink = ScriptedSource(truth=Truth(spec=SPEC)), MemorySink()
    supply = CollectionPipeline(source=source, presence=sink, sink=sink)
    settings = DownloadSettings(retry=QUICK, block_side=16, blocks_at_once=5, blocks_per_collection=9)
    downloads = Downloads({"tiny": supply}, settings, pool=pool)
    assert not (await downloads.ensure(SPEC, square(4), timeout=LONG)).failed
    assert source.most_under_way == 5
    await downloads.close()


# Bounds in time


async def test_parts_of_a_failed_block_keep_the_bounds(pool):
    async with bench(pool, blocks_per_collection=2, block_side=64) as b:
        b.source.faults = [touches(1, 1, bad())]
        results = await asyncio.gather(b.ensure(square(4)), b.ensure(square(4, 4, 4)))
        assert [[failure.chunk for failure in result.failed] for result in results] == [["dem/c/1/1"], []]
        assert b.source.most_under_way == 2
        assert not b.downloads.snapshot().flights


async def test_parts_that_nobody_waits_for_are_not_tried(pool):
    async with bench(pool, block_side=64) as b:
        b.source.gate = asyncio.Event()
        b.source.faults = [touches(1, 1, bad())]
        ask = b.begin(square(4))
        await until(lambda: b.source.under_way)
        ask.cancel()
        await asyncio.wait([ask])
        b.source.gate.set()
        await until(lambda: not b.downloads.snapshot().running)
        assert len(b.source.requests) == 1
        assert (b.downloads.snapshot().queued, b.downloads.snapshot().flights) == (0, 0)


class StuckItem(ScriptedSource):
    """Hangs where a request touches chunk (1, 1), after it has failed once."""

    async def read(self, request):
        self.requests.append(request)
        if len(self.requests) == 1:
            raise SourceCorruptError("it does not decode", item="scene")
        if chunk(1, 1) in set(keys_of(request)):
            await asyncio.Event().wait()
        return self.give(request)


async def test_a_flight_ends_however_often_it_is_tried(pool):
    """The deadline of a part follows from when its block began, not from its own beginning."""
    source, sink = StuckItem(truth=Truth(spec=SPEC)), MemorySink()
    settings = DownloadSettings(
        retry=replace(QUICK, budget=0.05, block_timeout=0.1), block_side=64, blocks_per_collection=1
    )
    supply = CollectionPipeline(source=source, presence=sink, sink=sink)
    downloads = Downloads({"tiny": supply}, settings, pool=pool)
    result = await downloads.ensure(SPEC, square(3), timeout=LONG)
    assert result.failed[0].chunk == "dem/c/1/1"
    assert {failure.kind for failure in result.failed} == {"source-timeout"}
    now = downloads.snapshot()
    assert (now.running, now.queued, now.flights) == (0, 0, 0)
    await downloads.close()


async def test_second_retry_after_is_not_awaited_beyond_the_budget(pool):
    """The budget is for all waits together."""
    async with bench(pool, retry=replace(QUICK, budget=3.0)) as b:
        b.source.faults = [touches(0, 0, lambda: SourceUnavailableError("429", retry_after=1.6))]
        assert (await b.ensure([chunk(0, 0)])).failed[0].kind == "source-unavailable"
        assert b.source.reads[chunk(0, 0)] == 2


@pytest.mark.parametrize(("asked", "alone"), [(3.0, 10.0), (30.0, 30.0), (3600.0, 60.0)])
async def test_a_source_that_names_a_time_is_left_alone_until_then(pool, asked, alone):
    async with bench(pool, failure_ttl=10, retry=replace(QUICK, budget=1)) as b:
        b.source.faults = [touches(0, 0, lambda: SourceUnavailableError("503", retry_after=asked), times=1)]
        assert (await b.ensure([chunk(0, 0)])).failed
        b.clock[0] = alone - 0.1
        assert (await b.ensure([chunk(0, 0)])).failed
        assert b.source.reads[chunk(0, 0)] == 1
        b.clock[0] = alone + 0.1
        assert not (await b.ensure([chunk(0, 0)])).failed


class HangingSink(MemorySink):
    async def commit(self, _):
        await asyncio.Event().wait()


async def test_a_sink_that_never_takes_anything_ends_as_its_failure(pool):
    source, sink, other = ScriptedSource(truth=Truth(spec=SPEC)), HangingSink(), MemorySink()
    supplies = {
        "tiny": CollectionPipeline(source=source, presence=sink, sink=sink),
        "other": CollectionPipeline(
            source=ScriptedSource(truth=Truth(spec=OTHER)), presence=other, sink=other
        ),
    }
    downloads = Downloads(supplies, DownloadSettings(retry=QUICK, commit_timeout=0.2), pool=pool)
    ask = asyncio.ensure_future(downloads.ensure(SPEC, square(5), timeout=LONG))
    await until(lambda: source.requests)
    assert not (await downloads.ensure(OTHER, square(5, spec=OTHER), timeout=LONG)).failed
    result = await asyncio.wait_for(ask, LONG)
    assert {failure.kind for failure in result.failed} == {"store-failed"}
    assert (downloads.snapshot().running, downloads.snapshot().flights) == (0, 0)
    await downloads.close()


async def test_what_nobody_waits_for_any_more_gives_its_place_back(pool):
    async with bench(pool, blocks_per_collection=1, unwanted=0.5) as b:
        b.source.gate = asyncio.Event()
        assert (await b.ensure(square(2), timeout=0.02)).failed
        assert b.downloads.snapshot().running == 1, "it may go on for a little while"
        await until(lambda: not b.downloads.snapshot().running)
        assert b.source.under_way == 0
        assert not b.downloads.snapshot().flights
        b.source.gate.set()
        assert not (await b.ensure(square(2))).failed, "the next one asks anew"


async def test_who_comes_back_in_time_keeps_it_going(pool):
    async with bench(pool, blocks_per_collection=1, unwanted=1.0) as b:
        b.source.gate = asyncio.Event()
        assert (await b.ensure(square(2), timeout=0.01)).failed
        back = b.begin([chunk(1, 1)])
        await asyncio.sleep(1.2)
        b.source.gate.set()
        assert not (await back).failed
        assert set(b.source.reads.values()) == {1}


async def test_an_ask_that_waits_ahead_of_time_counts_as_one_who_waits(pool):
    async with bench(pool, blocks_per_collection=1, unwanted=0.05) as b:
        b.source.gate = asyncio.Event()
        ahead = b.begin(square(2), priority=Priority.PREFETCH)
        assert (await b.ensure(square(2), timeout=0.02)).failed
        await asyncio.sleep(0.2)
        b.source.gate.set()
        assert not (await ahead).failed


# Again


async def test_again_fetches_what_is_there(pool):
    async with bench(pool) as b:
        await b.ensure(square(2))
        assert (await b.ensure(square(2), again=True)).started == 4
        assert set(b.source.reads.values()) == {2}


async def test_again_is_not_content_with_a_fetch_that_began_before(pool):
    """It may bring what was there before the source changed, and the caller asks because it has."""
    async with bench(pool) as b:
        gate = b.source.gate = asyncio.Event()
        first = b.begin(square(2))
        await until(lambda: b.source.under_way)
        asks = [b.begin(square(2), again=True) for _ in range(5)]
        await settle()
        assert len(b.source.requests) == 1, "not at the same time: the older pixels could be committed last"
        gate.set()
        for ended in await asyncio.gather(first, *asks):
            assert not ended.failed
        assert set(b.source.reads.values()) == {2}, "all five share the one that began after they asked"


async def test_again_joins_what_has_not_begun(pool):
    async with bench(pool, blocks_per_collection=1) as b:
        b.source.gate = asyncio.Event()
        first = b.begin([chunk(9, 9)])
        await until(lambda: b.source.under_way)
        queued = b.begin(square(2))
        await until(lambda: b.downloads.snapshot().queued == 1)
        again = b.begin(square(2), again=True)
        await settle()
        b.source.gate.set()
        await asyncio.gather(first, queued, again)
        assert set(b.source.reads.values()) == {1}


async def test_again_ends_by_its_deadline(pool):
    async with bench(pool) as b:
        b.source.gate = asyncio.Event()
        first = b.begin(square(2))
        await until(lambda: b.source.under_way)
        result = await asyncio.wait_for(b.ensure(square(2), again=True, timeout=0.05), 5)
        assert {failure.kind for failure in result.failed} == {"deadline-exceeded"}
        b.source.gate.set()
        assert not (await first).failed


# Closing


async def test_close_ends_every_wait_with_a_name(pool):
    async with bench(pool, blocks_per_collection=1, block_side=16) as b:
        b.source.gate = asyncio.Event()
        asks = [b.begin(square(3)), b.begin([chunk(0, 0)])]
        await until(lambda: b.source.under_way)
        await asyncio.wait_for(asyncio.gather(b.downloads.close(), b.downloads.close()), 5)
        for result in await asyncio.wait_for(asyncio.gather(*asks), 5):
            assert {failure.kind for failure in result.failed} == {"shutting-down"}
        now = b.downloads.snapshot()
        assert (now.queued, now.running, b.source.under_way) == (0, 0, 0)
        with pytest.raises(ShuttingDownError):
            await b.ensure([chunk(0, 0)])


async def test_close_right_after_an_ask_hangs_nobody(pool):
    async with bench(pool) as b:
        ask = b.begin(square(3))
        await asyncio.sleep(0)
        await asyncio.wait_for(b.downloads.close(), 5)
        result = await asyncio.wait_for(ask, 5)
        assert len(result.failed) == 9
