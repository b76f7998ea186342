"""Streams of events: their ends, their bounds, and those of the inventory, which can be large."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise, product
from types import SimpleNamespace

import numpy as np
import pytest
from odc.geo.crs import CRS

from icehouse_server.api import Streams
from icehouse_server.api.responses import event_streams
from icehouse_server.api.responses.geojson_features import Asked
from icehouse_server.api.routes import inventory as inventory_module
from icehouse_server.api.routes.inventory import _InventoryFeed as InventoryFeed
from icehouse_server.core.grid import Window
from icehouse_server.core.time import TimeAxis, TimeStep
from icehouse_server.service import Inventory, InventorySnapshot, View, changes
from icehouse_server.store import Index
from icehouse_server.testing.fakes import tiny_spec

STEPS = TimeAxis(
    listed=tuple(
        TimeStep(start=datetime(year, 1, 1, tzinfo=UTC), end=datetime(year + 1, 1, 1, tzinfo=UTC))
        for year in (2019, 2020)
    )
)
SPEC = tiny_spec("tiny", time=STEPS)
LONLAT = CRS("EPSG:4326")


class Told:
    """A feed of events that are given to it."""

    def __init__(self, *reported):
        self.reported = list(reported)
        self.asked = 0

    async def news(self, _seconds):
        self.asked += 1
        await asyncio.sleep(0)
        return self.reported.pop(0) if self.reported else None


def event(number, **more):
    return event_streams.Event(name="change", id=number, data="{}", **more)


async def run(stream, send, *, gone=None, method="GET"):
    async def receive():
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    await stream({"type": "http", "method": method, "headers": [], "path": "/"}, receive, send)


async def test_a_stream_tells_waits_and_ends(monkeypatch):
    monkeypatch.setattr(event_streams, "_PAUSE", 0)
    sent = []

    async def send(message):
        sent.append(message)

    streams = Streams(1)
    await run(event_streams.EventStream(Told(event(1), None, event(2, last=True)), streams), send)
    texts = [message["body"].decode() for message in sent[1:]]
    assert texts == [
        "event: change\nid: 1\ndata: {}\n\n",
        ": still here\n\n",
        "event: change\nid: 2\ndata: {}\n\n",
        "",
    ]
    assert len(streams) == 0


async def test_a_slow_reader_piles_up_nothing(monkeypatch):
    monkeypatch.setattr(event_streams, "_PAUSE", 0)
    feed, held, gone = Told(*map(event, range(1000))), asyncio.Event(), asyncio.Event()
    bodies = []

    async def send(message):
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            await held.wait()

    streams = Streams(1)
    task = asyncio.create_task(run(event_streams.EventStream(feed, streams), send, gone=gone))
    for _ in range(50):
        await asyncio.sleep(0)
    assert (feed.asked, len(bodies), len(streams)) == (1, 1, 1)
    gone.set()  # the client leaves while the daemon still waits to send
    await asyncio.wait_for(task, 10)
    assert (feed.asked, len(streams)) == (1, 0)


async def test_streams_are_bounded():
    streams, gone, sent = Streams(1), asyncio.Event(), []

    async def send(message):
        sent.append(message)

    first = asyncio.create_task(run(event_streams.EventStream(Told(), streams), send, gone=gone))
    await asyncio.sleep(0)
    answers = []

    async def note(message):
        answers.append(message)

    await run(event_streams.EventStream(Told(), streams), note)
    assert answers[0]["status"] == 503
    assert b"max_event_streams" in answers[1]["body"]
    gone.set()
    await asyncio.wait_for(first, 10)
    streams.enter()


async def test_feeds_that_rest_end_when_the_daemon_stops():
    streams = Streams(1)
    await streams.rest(0.001)
    resting = asyncio.create_task(streams.rest(1000))
    await asyncio.sleep(0)
    streams.close()
    with pytest.raises(event_streams.FeedEndedError):
        await asyncio.wait_for(resting, 10)
    with pytest.raises(event_streams.FeedEndedError):
        await streams.rest(1000)


async def test_feed_rests_after_a_long_look_and_between_heartbeats(monkeypatch):
    """A look of 20 s: the next comes when it is due, and until then no heartbeat before its time."""
    now, looks = [100.0], []

    async def picture(_):
        now[0] += 20
        looks.append(now[0])
        return InventorySnapshot(counts=(np.zeros((1, 1, 5), dtype=np.int32),), failed={}, unsure=1)

    async def rest(seconds):
        assert seconds > 0
        now[0] += seconds

    monkeypatch.setattr(inventory_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    view = View(
        collection=SPEC, level=0, bands=("dem",), times=(0,), areas=(Window(row=0, col=0, height=1, width=1),)
    )
    reported = SimpleNamespace(snapshot=picture, version=lambda _: (0, 0), each=lambda parts: parts)
    state = SimpleNamespace(inventory=reported, streams=SimpleNamespace(rest=rest))
    feed = InventoryFeed(state, Asked(view=view, crs=LONLAT))
    assert (await feed.news(15.0)).name == "inventory"
    for _ in range(6):
        begun = now[0]
        assert await feed.news(15.0) is None
        assert now[0] - begun >= 15
    assert [round(late - early) for early, late in pairwise(looks)] == [50, 50]


async def test_stream_whose_feed_never_waits_still_yields_the_loop():
    class Busy:
        async def news(self, _):
            return None

    gone = asyncio.Event()
    stream = asyncio.create_task(run(event_streams.EventStream(Busy(), Streams(1)), never_waits, gone=gone))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, gone.set)
    await asyncio.wait_for(stream, 30)


async def never_waits(message):
    """A reader who takes everything at once."""


SIDE = 40


def large():
    """An inventory of 1600 squares, all of them present, over 600 kB: what it is about, and who tells it."""
    spec = tiny_spec(rows=16 * SIDE, cols=16 * SIDE, chunk=16)
    index, whole = Index(spec), Window(row=0, col=0, height=SIDE, width=SIDE)
    for row, col in product(range(SIDE), range(SIDE)):
        index.add(spec.key("dem", row, col), void=False)
    view = View(collection=spec, level=0, bands=("dem",), times=None, areas=(whole,))
    looked = SimpleNamespace(
        version=0, failures=lambda *_: [], in_flight_listed=lambda *_: np.empty((0, 2), dtype=np.int64)
    )
    store = SimpleNamespace(index=index)
    return Asked(view=view, crs=LONLAT), SimpleNamespace(collection=lambda _: store), looked


async def test_stalled_readers_hold_one_part_each_and_block_no_other(monkeypatch):
    """Of six streams five do not read, and one gets all of it."""
    asked, held, looked = large()
    made, features = [], Asked._features

    def noted(self, picture, places):
        made.append(len(places))
        return features(self, picture, places)

    monkeypatch.setattr(Asked, "_features", noted)
    streams, gone = Streams(6), asyncio.Event()
    bodies, begun, whole = [[] for _ in range(6)], asyncio.Semaphore(0), asyncio.Event()

    async def send(number, message):
        if message["type"] == "http.response.body":
            bodies[number].append(message["body"])
            if bodies[number][-1].endswith(b"\n\n"):
                whole.set()
            if number:
                begun.release()
                await asyncio.Event().wait()

    with ThreadPoolExecutor(2) as pool:
        state = SimpleNamespace(inventory=Inventory(held, looked, timeout=60.0, pool=pool), streams=streams)
        tasks = [
            asyncio.create_task(
                run(
                    event_streams.EventStream(InventoryFeed(state, asked), streams),
                    partial(send, number),
                    gone=gone,
                )
            )
            for number in range(6)
        ]
        for _ in range(5):
            await asyncio.wait_for(begun.acquire(), 60)
        await asyncio.wait_for(whole.wait(), 60)
        assert [len(sent) for sent in bodies[1:]] == [1] * 5
        assert max(len(body) for sent in bodies for body in sent) < 200_000
        gone.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)
    name, data = b"".join(bodies[0]).decode().removesuffix("\n\n").split("\n")
    found = json.loads(data.removeprefix("data: "))
    assert (name, len(data) > 600_000) == ("event: inventory", True)
    ids = [feature["id"] for feature in found["features"]]
    assert ids == [f"0/{row}/{col}" for row, col in product(range(SIDE), range(SIDE))]
    assert sum(made) <= SIDE**2 + 5 * 256, (
        "nothing is made for those who do not read but what they were given"
    )


async def test_a_change_of_everything_comes_in_parts():
    asked, held, looked = large()
    with ThreadPoolExecutor(2) as pool:
        inventory = Inventory(held, looked, timeout=60.0, pool=pool)
        before = await inventory.snapshot(asked.view)
        index = held.collection("").index
        for row, col in product(range(1, SIDE), range(SIDE)):
            index.discard(asked.view.collection.key("dem", row, col))
        index.add(asked.view.collection.key("dem", 0, 0), void=True)
        after = await inventory.snapshot(asked.view)
        parts = [
            part async for part in inventory.each(asked.change(after, changes(before, after, asked.view)))
        ]
        again = [
            part async for part in inventory.each(asked.change(before, changes(after, before, asked.view)))
        ]
    found = json.loads("".join(parts))
    assert [feature["properties"]["state"] for feature in found["features"]] == ["void"]
    assert found["gone"] == [f"0/{row}/{col}" for row, col in product(range(1, SIDE), range(SIDE))]
    assert len(json.loads("".join(again))["features"]) == SIDE * (SIDE - 1) + 1
    assert max(map(len, parts + again)) < 200_000
