"""The schedule of blocks under random fire: bounds hold, nothing is lost, everything has its turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.blocks import join
from icehouse_server.downloads.block_task import BlockTask
from icehouse_server.downloads.schedule import Schedule
from icehouse_server.testing.fakes import tiny_spec

SPECS = [tiny_spec(f"c{n}") for n in range(4)]
KEY = SPECS[0].key("dem", 0, 0)
(BLOCK,) = join([KEY], 1)


@dataclass
class Rig:
    """A schedule whose jobs run until they are asked to end."""

    at_once: int
    per_collection: int
    collections: int = 4
    slow: float = 1000.0
    ends: dict = field(default_factory=dict)
    ran: list = field(default_factory=list)
    ended: list = field(default_factory=list)

    def __post_init__(self):
        self.schedule = Schedule(
            self.run,
            at_once=self.at_once,
            per_collection=self.per_collection,
            collections=self.collections,
            ended=self.ended.append,
            slow=self.slow,
        )

    async def run(self, job):
        self.ran.append(job)
        self.ends[job] = asyncio.Event()
        try:
            await self.ends[job].wait()
        finally:
            del self.ends[job]

    def put(self, number, count, priority):
        jobs = [BlockTask(spec=SPECS[number], block=BLOCK, priority=priority) for _ in range(count)]
        self.schedule.put(jobs)
        return jobs

    async def end(self, job, how):
        match how:
            case "well":
                self.ends[job].set()
            case "cancelled":
                self.schedule.under_way._blocks[job].run.cancel()
        for _ in range(4):
            await asyncio.sleep(0)


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 3), st.integers(1, 6), st.integers(0, 1)),
    st.tuples(st.just("end"), st.integers(0, 99), st.sampled_from(["well", "cancelled"])),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.just("advance"), st.integers(0, 99), st.integers(0, 3)),
    st.tuples(st.just("lend"), st.integers(0, 99)),
)


@given(
    steps=st.lists(STEPS, max_size=60),
    at_once=st.integers(1, 9),
    per_collection=st.integers(1, 5),
    lends=st.booleans(),
)
async def test_bounds_hold_and_no_job_is_lost(steps, at_once, per_collection, lends):  # noqa: C901 - its steps
    rig = Rig(at_once, per_collection)
    schedule, put, dropped, lent = rig.schedule, [], [], set()

    def check():
        young = [job for job in rig.ends if job not in lent]
        assert len(young) <= at_once
        assert lends or schedule.running <= at_once
        for spec in SPECS:
            assert sum(job.spec is spec for job in rig.ends) == schedule.running_of(spec.id) <= per_collection
        assert schedule.running == len(rig.ends)
        assert schedule.queued == len(put) - len(rig.ran) - len(dropped)
        if schedule.queued:  # no place is left idle that a waiting collection may have
            waiting = {job.spec.id for job in put if job not in rig.ran and job not in dropped}
            free = at_once - len(young)
            for name in waiting:
                held = sum(job.spec.id == name for job in young)
                assert schedule.running_of(name) == per_collection or held >= free

    for kind, number, *more in steps:
        idle = [job for job in put if job not in rig.ran and job not in dropped]
        match kind:
            case "put":
                put += rig.put(number, *more)
            case "end" if rig.ends:
                await rig.end(list(rig.ends)[number % len(rig.ends)], *more)
            case "drop" if idle:
                dropped.append(idle[number % len(idle)])
                schedule.drop(dropped[-1])
            case "advance" if idle:
                schedule.advance(idle[number % len(idle)], 0, *more)
            case "lend" if lends and set(rig.ends) - lent:
                job = sorted(set(rig.ends) - lent, key=rig.ran.index)[number % len(set(rig.ends) - lent)]
                schedule.under_way._blocks[job].lending.cancel()
                lent.add(job)
                schedule._lend(job)
        await asyncio.sleep(0)
        check()
    while rig.ends:
        await rig.end(next(iter(rig.ends)), "well")
        check()
    assert sorted(map(id, rig.ran)) == sorted(id(job) for job in put if job not in dropped)
    assert sorted(map(id, rig.ended)) == sorted(map(id, rig.ran))
    assert (schedule.queued, schedule.running, schedule.under_way.slots_taken) == (0, 0, 0)


async def turn_of(place, priority, rivals):
    """How many jobs ran before one at this position, next to a stream that never ends."""
    rig = Rig(1, 1, collections=1)
    rig.put(0, 1, 0)
    await asyncio.sleep(0)
    *_, job = rig.put(0, place + 1, priority)
    while job not in rig.ran[-1:] and len(rig.ran) < 10_000:
        rig.put(0, rivals, 0)
        await rig.end(next(iter(rig.ends)), "well")
    await rig.schedule.close()
    return len(rig.ran)


@settings(max_examples=10)
@given(place=st.integers(0, 4), rivals=st.integers(1, 3))
async def test_whatever_keeps_coming_every_job_has_its_turn(place, rivals):
    """It moves up by a place for each 16 that begin; who came until it is the foremost goes before it."""
    turn = await turn_of(place, 0, rivals)
    assert 16 * place <= turn <= 16 * place * rivals + 2 * (place + rivals + 1)


async def test_what_is_fetched_ahead_of_time_has_its_turn_too():
    assert 16 * 256 <= await turn_of(0, 1, 1) <= 16 * 257


async def test_first_blocks_of_small_requests_precede_tenth_of_large():
    rig = Rig(1, 1)
    rig.put(0, 1, 0)
    large, ahead, small = rig.put(0, 10, 0), rig.put(0, 2, 1), rig.put(0, 2, 0)
    await asyncio.sleep(0)
    while rig.ends:
        await rig.end(next(iter(rig.ends)), "well")
    assert rig.ran[1:] == [large[0], small[0], large[1], small[1], *large[2:], *ahead]


async def test_a_block_that_takes_long_gives_its_place_back():
    """Two collections hang with all places; a third begins when the first block has run for so long."""
    rig = Rig(3, 2, slow=0.05)
    rig.put(0, 3, 0)
    rig.put(1, 3, 0)
    rig.put(2, 1, 0)
    await asyncio.sleep(0)
    assert [rig.schedule.running_of(spec.id) for spec in SPECS[:3]] == [2, 1, 0]
    async with asyncio.timeout(20):
        while not rig.schedule.running_of("c2"):  # noqa: ASYNC110 - a timer of its own decides
            await asyncio.sleep(0.01)
    assert [rig.schedule.running_of(spec.id) for spec in SPECS[:2]] == [2, 2], "but never more of their own"
    await rig.schedule.close()
    assert rig.schedule.running == 0


@pytest.mark.parametrize("stuck", [1, 2, 3])
async def test_a_newcomer_begins_at_once_beside_collections_that_hang(stuck):
    rig = Rig(16, 8)
    for number in range(stuck):
        rig.put(number, 50, 0)
    rig.put(3, 4, 0)
    assert [rig.schedule.running_of(spec.id) for spec in SPECS] == [
        *(8, 4, 2)[:stuck],
        *[0] * (3 - stuck),
        min(4, 8 >> stuck),
    ]
    await rig.schedule.close()
