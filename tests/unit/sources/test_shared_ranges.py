"""Ranges that several readers want: asked for once, kept for a short time, failures left apart."""

import asyncio

import pytest

from icehouse_server.core.errors import SourceUnavailableError
from icehouse_server.sources.http.shared_ranges import SharedRanges


def key(start, stop=None):
    return ("http://host/file", '"etag"', start, start + 10 if stop is None else stop)


class Origin:
    """Answers by numbers, and writes down what it was asked."""

    def __init__(self, keys, *, gate=None, error=None):
        self.keys, self.gate, self.error = keys, gate, error
        self.asked = []

    async def __call__(self, places):
        self.asked.append([self.keys[place][2] for place in places])
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [memoryview(bytes([self.keys[place][2] % 251]) * 10) for place in places]


async def test_two_readers_at_once_ask_for_each_range_once():
    shared, gate = SharedRanges(), asyncio.Event()
    first = Origin([key(0), key(10)], gate=gate)
    second = Origin([key(10), key(20)], gate=gate)
    tasks = [asyncio.create_task(shared.get(origin.keys, origin)) for origin in (first, second)]
    await asyncio.sleep(0)
    gate.set()
    (a, b), (c, d) = await asyncio.gather(*tasks)
    assert first.asked == [[0, 10]]
    assert second.asked == [[20]]
    assert [bytes(data)[0] for data in (a, b, c, d)] == [0, 10, 10, 20]


async def test_range_given_twice_is_requested_once_and_returned_twice():
    shared = SharedRanges()
    origin = Origin([key(5), key(5)])
    assert [bytes(data)[0] for data in await shared.get(origin.keys, origin)] == [5, 5]
    assert origin.asked == [[5]]


async def test_what_is_kept_is_bounded_by_bytes_and_by_age():
    shared = SharedRanges(max_bytes=40)
    for start in range(0, 100, 10):
        origin = Origin([key(start)])
        await shared.get(origin.keys, origin)
    late, early = Origin([key(90)]), Origin([key(0)])
    await shared.get(late.keys, late)
    await shared.get(early.keys, early)
    assert late.asked == []
    assert early.asked == [[0]]
    shared.max_age = -1
    again = Origin([key(0)])
    await shared.get(again.keys, again)
    assert again.asked == [[0]]


async def test_a_failure_reaches_those_who_wait_and_is_not_kept():
    shared, gate = SharedRanges(), asyncio.Event()
    bad = Origin([key(0)], gate=gate, error=SourceUnavailableError("no"))
    waiting = Origin([key(0)])
    tasks = [asyncio.create_task(shared.get(origin.keys, origin)) for origin in (bad, waiting)]
    await asyncio.sleep(0)
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [SourceUnavailableError, SourceUnavailableError]
    good = Origin([key(0)])
    assert len(await shared.get(good.keys, good)) == 1


async def test_cancelled_reader_does_not_cancel_the_others():
    shared, never = SharedRanges(), asyncio.Event()
    stuck = asyncio.create_task(shared.get([key(0)], Origin([key(0)], gate=never)))
    await asyncio.sleep(0)
    other = Origin([key(0)])
    waiting = asyncio.create_task(shared.get(other.keys, other))
    await asyncio.sleep(0)
    stuck.cancel()
    assert len(await waiting) == 1
    assert other.asked == [[0]], "it asks for itself when the one before it is gone"
    with pytest.raises(asyncio.CancelledError):
        await stuck


async def test_what_is_forgotten_is_asked_for_anew():
    shared = SharedRanges()
    origin = Origin([key(0), key(10)])
    await shared.get(origin.keys, origin)
    shared.forget("http://host/another")
    await shared.get(origin.keys, origin)
    assert origin.asked == [[0, 10]]
    shared.forget("http://host/file")
    await shared.get(origin.keys, origin)
    assert origin.asked == [[0, 10], [0, 10]]
