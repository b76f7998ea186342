"""The inventory: states and counts against brute force, outlines on the globe, voids, streams."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise, product
from threading import Event, current_thread, main_thread
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely import Point, union_all
from shapely.geometry import shape

from icehouse_server.api import Streams, events
from icehouse_server.api import inventory as inventory_module
from icehouse_server.api.features import Asked
from icehouse_server.api.inventory import _InventoryFeed as InventoryFeed
from icehouse_server.api.outlines import outlines
from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import FailedChunk, TooLargeError
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.ports import FilledChunk
from icehouse_server.core.time import TimeAxis, TimeStep
from icehouse_server.downloads.flights import Failures, Flight, Flights, Job
from icehouse_server.service import Amounts, ChunkState, Inventory, Picture, Pulse, View, changes
from icehouse_server.service.inventory import _counts, _failed, _flying
from icehouse_server.store import Index, StoreSettings
from icehouse_server.store import collection as collection_module
from icehouse_server.testing.fakes import tiny_spec
from icehouse_server.testing.stores import open_store

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
    layers = [SPEC.key(band, row, col, time, view.level) for band, time in view.layers]
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
        return Picture(counts=(counts,), failed=failed.get("failed", {}), unsure=0)

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
    flights, job = Flights(), Job(spec=SPEC, block=None, priority=0)
    around = Window(row=0, col=0, height=4, width=4)
    one, two = (Flight(key=SPEC.key("dem", 1, col, 0), job=job) for col in (2, 3))
    for flight in (one, two):
        flights.add(flight)
    assert sorted(flights.listed("tiny", "dem", 0, around).tolist()) == [[1, 2], [1, 3]]
    assert not len(flights.listed("tiny", "dem", 1, around))
    assert not len(flights.listed("tiny", "dem", 0, around, 1))
    before = flights.version
    flights.remove(Flight(key=one.key, job=job))  # another one of the same chunk
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


# Voids after a restart


@pytest.mark.parametrize("chunk", [16, 1024])
async def test_who_looks_finds_voids_from_before_the_start(tmp_path, chunk):
    """A void chunk of 1024 x 1024 is too long for the manifest: another way to the same."""
    bands = (
        BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0),
        BandSpec(name="all", dtype=np.dtype("uint8"), nodata=None),
    )
    spec = tiny_spec(rows=2 * chunk, cols=2 * chunk, chunk=chunk, bands=bands)
    values = np.random.default_rng(1).random((chunk, chunk)).astype("float32")
    flat = np.full((chunk, chunk), 7, dtype="float32")
    held = [values, np.full_like(values, -9999), flat, np.full_like(values, -9999)]
    keys = [spec.key("dem", place // 2, place % 2) for place in range(4)]
    filled = [
        FilledChunk(key=key, values=chunk, void=bool((chunk == -9999).all()), provenance=())
        for key, chunk in zip(keys, held, strict=True)
    ]
    other = spec.key("all", 0, 0)
    filled.append(
        FilledChunk(key=other, values=np.zeros_like(values, dtype="uint8"), void=False, provenance=())
    )
    whole = Window(row=0, col=0, height=2, width=2)
    with ThreadPoolExecutor(2) as pool:
        settings = StoreSettings(decoded_bytes=10**7)
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            await store.collections["tiny"].commit(tuple(filled))
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            collection = store.collections["tiny"]
            index = collection.index
            assert len(index.unsure_listed("dem", None, whole)) == 4
            assert not index.is_unsure(other), "without nodata no pixel can say that there is nothing"
            await collection.look(keys[:2], seconds=0)
            assert [index.is_unsure(key) for key in keys] == [False, False, True, True]
            assert await collection.voids([*keys, other]) == 2
            assert index.void_within("dem", None, whole).tolist() == [[False, True], [False, True]]
            assert not len(index.unsure_listed("dem", None, whole))
            assert collection.leases == 0


async def test_each_chunk_is_looked_at_once_however_many_look(tmp_path, monkeypatch):
    """Watchers and plans at once, of the same region and of overlapping ones."""
    band = BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0)
    spec = tiny_spec(rows=256, cols=256, chunk=16, bands=(band,))
    flat = [np.full((16, 16), value, dtype="float32") for value in (0, -9999)]
    keys = [spec.key("dem", row, col) for row, col in product(range(16), range(16))]
    filled = (
        FilledChunk(key=key, values=flat[key.col % 2], void=bool(key.col % 2), provenance=()) for key in keys
    )
    with ThreadPoolExecutor(2) as pool:
        async with open_store(tmp_path, [spec], StoreSettings(decoded_bytes=10**7), pool=pool) as store:
            await store.collections["tiny"].commit(tuple(filled))
        async with open_store(tmp_path, [spec], StoreSettings(decoded_bytes=10**7), pool=pool) as store:
            collection, seen = store.collections["tiny"], Counter()
            stored = collection._stored

            async def noted(lease, band, some):
                seen.update(some)
                return await stored(lease, band, some)

            monkeypatch.setattr(collection, "_stored", noted)
            monkeypatch.setattr(collection_module, "_LOOKED_AT_ONCE", 50)
            counts = await asyncio.wait_for(
                asyncio.gather(*(collection.voids(keys[:size]) for size in (256, 256, 192, 64))), 60
            )
            assert (counts, set(seen.values()), seen.keys()) == ([128, 128, 96, 32], {1}, set(keys))
            assert collection.leases == 0


async def test_who_may_not_wait_does_not_wait_for_another_who_looks(tmp_path):
    spec = tiny_spec()
    with ThreadPoolExecutor(2) as pool:
        async with open_store(tmp_path, [spec], StoreSettings(decoded_bytes=10**7), pool=pool) as store:
            collection, key = store.collections["tiny"], spec.key("dem", 0, 0)
            await collection._looking.acquire()
            await asyncio.wait_for(collection.look([key], seconds=0.01), 60)
            waiting = asyncio.create_task(collection.look([key]))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            collection._looking.release()
            await asyncio.wait_for(waiting, 60)
            assert not collection._looking.locked()


async def test_small_chunks_that_are_not_void_are_decoded_a_few_at_a_time(tmp_path, monkeypatch):
    band = BandSpec(name="dem", dtype=np.dtype("float32"), nodata=-9999.0)
    spec = tiny_spec(rows=512, cols=512, chunk=16, bands=(band,))
    flat = np.zeros((16, 16), dtype="float32")
    keys = [spec.key("dem", row, col) for row, col in product(range(32), range(32))]
    with ThreadPoolExecutor(2) as pool:
        settings = StoreSettings(decoded_bytes=10**7)
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            await store.collections["tiny"].commit(
                tuple(FilledChunk(key=key, values=flat, void=False, provenance=()) for key in keys)
            )
        async with open_store(tmp_path, [spec], settings, pool=pool) as store:
            collection, read = store.collections["tiny"], []
            stored = collection._stored

            async def noted(lease, band, some):
                read.append(len(some))
                return await stored(lease, band, some)

            monkeypatch.setattr(collection, "_stored", noted)
            monkeypatch.setattr(collection_module, "_LOOKED_AT_BYTES", 100 * flat.nbytes)
            assert await collection.voids(keys) == 0
    assert (sum(read), max(read)) == (len(keys), 100)


# Outlines


def grid(crs, left, top, size, cells=4, chunk=64):
    affine = Affine(size / chunk, 0, left, 0, -size / chunk, top)
    return Grid(geobox=GeoBox((cells * chunk, cells * chunk), affine, crs), chunk=chunk)


def squares(cells=4):
    return list(product(range(cells), range(cells)))


def test_outlines_in_the_own_crs_are_the_chunks_themselves():
    tall = Grid(geobox=GeoBox((100, 150), Affine(32, 0, -4096, 0, -32, 8192), "EPSG:3413"), chunk=64)
    (found,) = outlines(tall, 64, [(1, 2)], tall.crs)
    west, south, east, north = -4096 + 128 * 32, 8192 - 100 * 32, -4096 + 150 * 32, 8192 - 64 * 32
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    assert found == {"type": "Polygon", "coordinates": [ring]}, "cut at the grid's edge, counterclockwise"
    assert outlines(tall, 64, [], tall.crs) == []


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
@pytest.mark.parametrize("left", [-128e3, -96e3, -64e3, -30e3, 0.0, -200e3, 3e6])
@pytest.mark.parametrize("top", [128e3, 80e3, 64e3])
def test_outlines_on_the_globe_tile_it_and_hold_their_chunks(crs, left, top):
    """Also where the pole lies in a chunk, on its edge or in its corner, and across 180 degrees."""
    g = grid(crs, left, top, 64e3)
    found = [shape(geometry) for geometry in outlines(g, 64, squares(), LONLAT)]
    to = Transformer.from_crs(crs, 4326, always_xy=True)
    for (row, col), outline in zip(squares(), found, strict=True):
        assert outline.is_valid
        assert -180 <= outline.bounds[0] < outline.bounds[2] <= 180
        for piece in getattr(outline, "geoms", [outline]):
            assert piece.exterior.is_ccw
        for part_x, part_y in product((0.03, 0.5, 0.97), repeat=2):
            x, y = left + (col + part_x) * 64e3, top - (row + part_y) * 64e3
            inside = [place for place, other in enumerate(found) if other.covers(Point(*to.transform(x, y)))]
            if max(abs(x), abs(y)) > 1:  # the pole itself is everywhere
                assert row * 4 + col in inside
    together = union_all(found)
    assert sum(outline.area for outline in found) == pytest.approx(together.area, rel=1e-4)


def test_a_chunk_that_holds_the_pole_reaches_up_to_it_all_around():
    (found,) = outlines(grid("EPSG:3413", -32e3, 32e3, 64e3), 64, [(0, 0)], LONLAT)
    assert found["type"] == "Polygon"
    assert shape(found).bounds[0::2] == (-180, 180)
    assert shape(found).bounds[3] == 90


def test_sides_are_drawn_of_as_many_parts_as_they_need():
    g = grid("EPSG:3413", 1e6, 3e6, 64e3, cells=32)
    small, large = (outlines(g, 64 * side, [(0, 0)], LONLAT)[0]["coordinates"][0] for side in (1, 16))
    assert 5 <= len(small) < len(large) <= 4 * 32 + 1
    to = Transformer.from_crs(3413, 4326, always_xy=True)
    middle = to.transform(1e6 + 8 * 64e3, 3e6 - 16 * 64e3)
    assert shape({"type": "LineString", "coordinates": large}).distance(Point(middle)) < 0.01


def test_grids_in_lonlat_are_cut_at_180_and_at_the_poles():
    """As the Copernicus DEM lies: half a pixel over the edge."""
    half = 0.5
    g = Grid(geobox=GeoBox((181, 360), Affine(1, 0, -180 - half, 0, -1, 90 + half), "EPSG:4326"), chunk=60)
    first, second = outlines(g, 60, [(0, 0), (1, 1)], LONLAT)
    assert first["type"] == "MultiPolygon"
    assert shape(first).area == pytest.approx(60 * 59.5)
    assert shape(first).bounds == (-180, 30.5, 180, 90)
    assert shape(second).bounds == (-120.5, -29.5, -60.5, 30.5)
    (whole,) = outlines(g, 60 * 8, [(0, 0)], LONLAT)
    assert shape(whole).area == pytest.approx(360 * 180)


@pytest.mark.parametrize(
    ("left", "top", "crs", "kind"),
    [
        (1e6, 3e6, 3857, "Polygon"),
        (-3e6, 3e6, 3857, "MultiPolygon"),  # across 180 degrees, where that map ends
        (-3e6, 3e6, 3575, "Polygon"),  # and where this one does not
        (-32e3, 32e3, 3575, "Polygon"),  # around the pole
        (-32e3, 32e3, 32633, "Polygon"),
    ],
)
def test_outlines_in_a_third_crs(left, top, crs, kind):
    (found,) = outlines(grid("EPSG:3413", left, top, 64e3), 64, [(0, 0)], CRS(f"EPSG:{crs}"))
    to = Transformer.from_crs(3413, crs, always_xy=True)
    assert found["type"] == kind
    assert shape(found).is_valid
    for part_x, part_y in product((0.05, 0.6, 0.95), repeat=2):
        assert shape(found).contains(Point(to.transform(left + part_x * 64e3, top - part_y * 64e3)))


def test_what_has_no_place_in_a_crs_has_no_geometry():
    assert outlines(grid("EPSG:4326", 105, 1, 1), 64, [(0, 0)], CRS("EPSG:32633")) == [None]


# Streams


class Told:
    """A feed of events that are given to it."""

    def __init__(self, *told):
        self.told = list(told)
        self.asked = 0

    async def news(self, _seconds):
        self.asked += 1
        await asyncio.sleep(0)
        return self.told.pop(0) if self.told else None


def event(number, **more):
    return events.Event(name="change", id=number, data="{}", **more)


async def run(stream, send, *, gone=None, method="GET"):
    async def receive():
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    await stream({"type": "http", "method": method, "headers": [], "path": "/"}, receive, send)


async def test_a_stream_tells_waits_and_ends(monkeypatch):
    monkeypatch.setattr(events, "_PAUSE", 0)
    sent = []

    async def send(message):
        sent.append(message)

    streams = Streams(1)
    await run(events.EventStream(Told(event(1), None, event(2, last=True)), streams), send)
    texts = [message["body"].decode() for message in sent[1:]]
    assert texts == [
        "event: change\nid: 1\ndata: {}\n\n",
        ": still here\n\n",
        "event: change\nid: 2\ndata: {}\n\n",
        "",
    ]
    assert len(streams) == 0


async def test_a_slow_reader_piles_up_nothing(monkeypatch):
    monkeypatch.setattr(events, "_PAUSE", 0)
    feed, held, gone = Told(*map(event, range(1000))), asyncio.Event(), asyncio.Event()
    bodies = []

    async def send(message):
        if message["type"] == "http.response.body":
            bodies.append(message["body"])
            await held.wait()

    streams = Streams(1)
    task = asyncio.create_task(run(events.EventStream(feed, streams), send, gone=gone))
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

    first = asyncio.create_task(run(events.EventStream(Told(), streams), send, gone=gone))
    await asyncio.sleep(0)
    answers = []

    async def note(message):
        answers.append(message)

    await run(events.EventStream(Told(), streams), note)
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
    with pytest.raises(events.FeedEndedError):
        await asyncio.wait_for(resting, 10)
    with pytest.raises(events.FeedEndedError):
        await streams.rest(1000)


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
        settings = SimpleNamespace(request_timeout=60.0)
        service = SimpleNamespace(collection=lambda _: store, downloads=downloads, settings=settings)
        picture = await Inventory(service, pool=pool).picture(view)
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
            inventory, loop = Inventory(None, pool=pool), asyncio.get_running_loop()
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
    pulse = Pulse(lambda: Amounts(blocks=done[0], bytes=1000 * done[0]), clock=lambda: now[0])
    assert pulse.rates == Amounts(blocks=0, bytes=0)
    for _ in range(60):
        now[0] += 1
        done[0] += 3
        pulse.note()
    assert pulse.rates == Amounts(blocks=3, bytes=3000)
    for _ in range(11):
        now[0] += 1
        pulse.note()
    assert pulse.rates == Amounts(blocks=0, bytes=0)
    assert (pulse.total.blocks, pulse.uptime) == (180, 71)


async def test_what_streams_share_is_made_once_in_a_while(monkeypatch):
    now, made, failing = [0.0], [], []
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def make():
        await asyncio.sleep(0)
        if failing:
            raise failing.pop()
        made.append(now[0])
        return len(made)

    shared = events.Shared(0.5)
    assert await asyncio.gather(*(shared.get(make) for _ in range(64))) == [1] * 64
    now[0] = 0.4
    assert await shared.get(make) == 1
    now[0], failing[:] = 0.5, [OSError()]
    with pytest.raises(OSError):  # noqa: PT011
        await shared.get(make)
    assert await asyncio.gather(shared.get(make), shared.get(make)) == [2, 2]
    assert made == [0.0, 0.5]


async def test_a_feed_rests_after_a_long_look_and_between_its_heartbeats(monkeypatch):
    """A look of 20 s: the next comes when it is due, and until then no heartbeat before its time."""
    now, looks = [100.0], []

    async def picture(_):
        now[0] += 20
        looks.append(now[0])
        return Picture(counts=(np.zeros((1, 1, 5), dtype=np.int32),), failed={}, unsure=1)

    async def rest(seconds):
        assert seconds > 0
        now[0] += seconds

    monkeypatch.setattr(inventory_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    view = View(
        collection=SPEC, level=0, bands=("dem",), times=(0,), areas=(Window(row=0, col=0, height=1, width=1),)
    )
    told = SimpleNamespace(picture=picture, version=lambda _: (0, 0), each=lambda parts: parts)
    state = SimpleNamespace(inventory=told, streams=SimpleNamespace(rest=rest))
    feed = InventoryFeed(state, Asked(view=view, crs=LONLAT))
    assert (await feed.news(15.0)).name == "inventory"
    for _ in range(6):
        begun = now[0]
        assert await feed.news(15.0) is None
        assert now[0] - begun >= 15
    assert [round(late - early) for early, late in pairwise(looks)] == [50, 50]


async def test_a_stream_whose_feed_never_waits_leaves_the_loop_to_others():
    class Busy:
        async def news(self, _):
            return None

    gone = asyncio.Event()
    stream = asyncio.create_task(run(events.EventStream(Busy(), Streams(1)), never_waits, gone=gone))
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
    looked = Looked(set())
    looked.version, looked.failures = 0, lambda *_: []
    store = SimpleNamespace(index=index)
    return Asked(view=view, crs=LONLAT), SimpleNamespace(
        collection=lambda _: store, downloads=looked, settings=SimpleNamespace(request_timeout=60.0)
    )


async def test_readers_that_do_not_read_hold_a_part_each_and_hinder_nobody(monkeypatch):
    """Of six streams five do not read, and one gets all of it."""
    asked, service = large()
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
        state = SimpleNamespace(inventory=Inventory(service, pool=pool), streams=streams)
        tasks = [
            asyncio.create_task(
                run(
                    events.EventStream(InventoryFeed(state, asked), streams), partial(send, number), gone=gone
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
    asked, service = large()
    with ThreadPoolExecutor(2) as pool:
        inventory = Inventory(service, pool=pool)
        before = await inventory.picture(asked.view)
        index = service.collection("").index
        for row, col in product(range(1, SIDE), range(SIDE)):
            index.discard(asked.view.collection.key("dem", row, col))
        index.add(asked.view.collection.key("dem", 0, 0), void=True)
        after = await inventory.picture(asked.view)
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
