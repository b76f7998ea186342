"""One question at a time per key, alone and in batches."""

import asyncio

import pytest

from icehouse_server.aio.single_flight import BatchFlight, SingleFlight


async def test_one_flight_for_many_and_none_for_failures():
    flights, calls = SingleFlight(), []

    async def ask():
        calls.append(1)
        await asyncio.sleep(0.01)
        if len(calls) == 1:
            raise ValueError("first")
        return 7

    first = await asyncio.gather(*(flights.run("k", ask) for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in first} == {ValueError}
    assert await asyncio.gather(*(flights.run("k", ask) for _ in range(5))) == [7] * 5
    assert len(calls) == 2


async def test_a_cancelled_caller_does_not_end_a_flight():
    flights = SingleFlight()

    async def ask():
        await asyncio.sleep(0.02)
        return 7

    leaver = asyncio.create_task(flights.run("k", ask))
    stayer = asyncio.create_task(flights.run("k", ask))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await stayer == 7


async def test_close_cancels_what_is_under_way():
    flights, never = SingleFlight(), asyncio.Event()
    waiting = asyncio.create_task(flights.run("k", never.wait))
    await asyncio.sleep(0)
    await flights.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_failure_is_read_where_every_caller_has_left():
    flights, go = SingleFlight(), asyncio.Event()

    async def ask():
        await go.wait()
        raise ValueError("no caller listens")

    leaver = asyncio.create_task(flights.run("k", ask))
    await asyncio.sleep(0)
    leaver.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await flights.close()


class Squares:
    """Fetches squares, and writes down which."""

    def __init__(self, gate=None, error=None):
        self.gate, self.error, self.fetched = gate, error, []

    async def __call__(self, keys):
        self.fetched.append(keys)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [key * key for key in keys]


async def test_batches_that_overlap_fetch_each_key_once():
    flight, gate = BatchFlight(), asyncio.Event()
    first, second = Squares(gate), Squares()
    tasks = [asyncio.create_task(flight.run(*work)) for work in (([1, 2, 1], first), ([2, 3], second))]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == [{1: 1, 2: 4}, {2: 4, 3: 9}]
    assert first.fetched == [[1, 2]]
    assert second.fetched == [[3]]
    again = Squares()
    assert await flight.run([1], again) == {1: 1}
    assert again.fetched == [[1]], "nothing is kept"


async def test_failure_of_a_batch_reaches_those_who_wait():
    flight, gate = BatchFlight(), asyncio.Event()
    tasks = [
        asyncio.create_task(flight.run([1], Squares(gate, ValueError("no")))),
        asyncio.create_task(flight.run([1], Squares())),
    ]
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
    assert await flight.run([1], Squares()) == {1: 1}


async def test_key_of_a_cancelled_batch_is_fetched_anew():
    flight, other = BatchFlight(), Squares()
    stuck = asyncio.create_task(flight.run([1, 2], Squares(asyncio.Event())))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(flight.run([2], other))
    await asyncio.sleep(0)
    stuck.cancel()
    assert await waiting == {2: 4}
    assert other.fetched == [[2]]
    with pytest.raises(asyncio.CancelledError):
        await stuck
