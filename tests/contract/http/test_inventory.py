"""The inventory over HTTP, against a real daemon and the stand-ins: every state, and live."""

from __future__ import annotations

import json
import queue
import signal
import socket
import threading
import time
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest
from shapely.geometry import shape

import icehouse
from icehouse_server.app import create_app
from icehouse_server.demo.faults import Fault, Stall, Status
from icehouse_server.settings import Settings
from icehouse_server.testing.waiting import until

FAR = (40, 60)
"""A chunk in the sea: no item lies there."""
CHUNK_M, LEFT, TOP = 256 * 32, -4_000_096, 4_100_096


def around(row, col, rows=1, cols=1, level=0):
    """The inside of some chunks as parameters."""
    size = CHUNK_M << level
    west, north = LEFT + col * size, TOP - row * size
    box = (west + 1, north - rows * size + 1, west + cols * size - 1, north - 1)
    return {"bbox": ",".join(map(str, box)), "bbox-crs": "EPSG:3413"}


def load(daemon, row, col, **more):
    """Have a chunk of level 0 fetched, or the one of another level that lies there."""
    return daemon.http.get(daemon.path("coverage.npy"), params={**around(row, col), "level": "0", **more})


def features(daemon, where, **more):
    answer = daemon.http.get(daemon.path("inventory"), params={**where, **more})
    assert answer.status_code == 200, answer.text
    return {found["id"]: found for found in answer.json()["features"]}


def states(daemon, where, **more):
    return {name: found["properties"]["state"] for name, found in features(daemon, where, **more).items()}


@contextmanager
def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(60)


class Listener:
    """Reads a stream in a thread of its own."""

    def __init__(self, url, params=None):
        self.events = queue.Queue()
        self.ended = threading.Event()
        self._url, self._params = url, params
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with httpx.stream("GET", self._url, params=self._params, timeout=60, trust_env=False) as answer:
            self.answer, name = answer, None
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.put((name, json.loads(line.removeprefix("data: "))))
        self.ended.set()

    def next(self):
        return self.events.get(timeout=60)


# States


def test_present_and_void(daemon, place):
    where = around(place.row, place.col, 1, 2)
    assert states(daemon, where) == {}
    assert load(daemon, place.row, place.col).status_code == 200
    (found,) = features(daemon, where).values()
    assert found["id"] == f"0/{place.row}/{place.col}"
    assert found["properties"] == {
        "row": place.row,
        "col": place.col,
        "level": 0,
        "state": "present",
        "chunks": 1,
        "chunk": f"dem/c/{place.row}/{place.col}",
    }
    assert load(daemon, *FAR).status_code == 200
    assert states(daemon, around(*FAR)) == {f"0/{FAR[0]}/{FAR[1]}": "void"}


def test_failed_then_in_flight_then_present(daemon, place, fresh_standins):
    where, name = around(place.row, place.col), f"0/{place.row}/{place.col}"
    fresh_standins.faults([Fault(path="*_dem.tif", action=Status(status=403), times=None)])
    assert load(daemon, place.row, place.col).status_code == 502
    (found,) = features(daemon, where).values()
    properties = found["properties"]
    assert (properties["state"], properties["kind"]) == ("failed", "source-refused")
    assert "403" in properties["detail"]
    assert properties["chunk"] == f"dem/c/{place.row}/{place.col}"
    fresh_standins.reset()
    fresh_standins.faults([Fault(path="*_dem.tif", action=Stall(seconds=600))])
    with in_thread(lambda: load(daemon, place.row, place.col)):
        until(lambda: states(daemon, where) == {name: "in flight"})
        fresh_standins.reset()
    assert states(daemon, where) == {name: "present"}


def test_several_bands_and_levels(daemon, place, fresh_standins):
    where, name = around(place.row, place.col), f"0/{place.row}/{place.col}"
    load(daemon, place.row, place.col)
    assert states(daemon, where, properties="dem,count") == {}
    assert states(daemon, where, properties="count") == {}
    fresh_standins.faults([Fault(path="*_count.tif", action=Status(status=403), times=None)])
    load(daemon, place.row, place.col, bands="count")
    (found,) = features(daemon, where, properties="dem,count").values()
    assert found["properties"]["state"] == "failed"
    assert found["properties"]["chunk"] == f"count/c/{place.row}/{place.col}"
    fresh_standins.reset()
    load(daemon, place.row, place.col, bands="count")
    (found,) = features(daemon, where, properties="dem,count").values()
    assert found["properties"]["state"] == "present"
    assert "chunk" not in found["properties"]
    row, col = place.row // 4, place.col // 4
    assert states(daemon, where, level="2") == {}
    load(daemon, place.row, place.col, level="2")
    (found,) = features(daemon, where, level="2").values()
    assert (found["id"], found["properties"]["chunk"]) == (f"2/{row}/{col}", f"2/dem/c/{row}/{col}")
    assert states(daemon, where) == {name: "present"}


def test_cells_count_chunks(daemon, place):
    load(daemon, place.row, place.col)
    where = around(place.row, place.col)
    square = {"row": place.row // 8 * 8, "col": place.col // 8 * 8}
    inside = states(daemon, around(square["row"], square["col"], 8, 8))
    (found,) = features(daemon, where, cell="8").values()
    assert found["id"] == f"0/{square['row']}/{square['col']}"
    counted = {name: list(inside.values()).count(name) for name in ("failed", "present", "void")}
    properties = {**square, **counted, "level": 0, "chunks": 64, "in_flight": 0}
    assert found["properties"] == {**properties, "state": "failed" if counted["failed"] else "present"}
    whole = features(daemon, {}, cell="1024")
    assert sum(found["properties"]["chunks"] for found in whole.values()) == 904 * 916
    assert sum(found["properties"]["present"] for found in whole.values()) >= 1


def test_coordinates(daemon, place):
    load(daemon, place.row, place.col)
    where, place_there = around(place.row, place.col), {"params": around(place.row, place.col)}
    answer = daemon.http.get(daemon.path("inventory"), **place_there)
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.headers["content-crs"] == "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert "coordRefSys" not in document
    assert (document["type"], document["unsure"]) == ("FeatureCollection", 0)
    lonlat = shape(document["features"][0]["geometry"])
    again = features(daemon, {"bbox": ",".join(map(str, lonlat.centroid.buffer(0.001).bounds))})
    assert again.keys() == features(daemon, where).keys()
    answer = daemon.http.get(daemon.path("inventory"), params={**where, "crs": "EPSG:3413"})
    uri = "http://www.opengis.net/def/crs/EPSG/0/3413"
    assert answer.headers["content-crs"] == f"<{uri}>"
    assert answer.json()["coordRefSys"] == uri
    assert shape(answer.json()["features"][0]["geometry"]).bounds == (
        place.left,
        place.top - CHUNK_M,
        place.left + CHUNK_M,
        place.top,
    )


def test_across_the_antimeridian_and_at_the_pole(daemon):
    """What is cached there is shown there, on both sides, in one piece or two."""
    pole = (int(TOP // CHUNK_M), int(-LEFT // CHUNK_M))
    assert load(daemon, *pole).status_code == 200
    (found,) = features(daemon, around(*pole)).values()
    assert shape(found["geometry"]).bounds[0::2] == (-180, 180)
    assert shape(found["geometry"]).bounds[3] == 90
    assert found["id"] in features(daemon, {"bbox": "-180,89.9,180,90"})
    across = (pole[0] - 100, pole[1] - 100)  # up and to the left of the pole
    assert load(daemon, *across).status_code == 200
    (found,) = features(daemon, around(*across)).values()
    assert found["geometry"]["type"] == "MultiPolygon"
    south, north = shape(found["geometry"]).bounds[1::2]
    assert found["id"] in features(daemon, {"bbox": f"179,{south},-179,{north}"})


def test_the_client_gives_the_same(daemon, place):
    where = around(place.row, place.col)
    assert load(daemon, place.row, place.col).status_code == 200
    box = [float(edge) for edge in where["bbox"].split(",")]
    with icehouse.Client(daemon.url) as client:
        found = client["arcticdem-32m"].inventory(box, crs="EPSG:3413", bands="dem")
        counted = client.inventory(box, "arcticdem-32m", crs="EPSG:3413", bands=["dem", "mad"], cell=8)
        with pytest.raises(icehouse.BadParameter, match="cell"):
            client["arcticdem-32m"].inventory(cell=3)
        with pytest.raises(icehouse.BadParameter, match="datetime"):
            client["arcticdem-32m"].inventory(box, crs="EPSG:3413", datetime="2020")
    assert found["features"] == list(features(daemon, where, crs="EPSG:3413", properties="dem").values())
    assert [entry["properties"]["state"] for entry in found["features"]] in (["present"], ["void"])
    assert (
        counted
        == daemon.http.get(
            daemon.path("inventory"), params={**where, "crs": "EPSG:3413", "properties": "dem,mad", "cell": 8}
        ).json()
    )


def test_outside_is_empty(daemon):
    assert features(daemon, {"bbox": "0,-10,1,-9"}) == {}


@pytest.mark.parametrize(
    ("query", "status", "kind", "parameter"),
    [
        ({}, 413, "too-large", None),
        ({"cell": "3"}, 400, "bad-parameter", "cell"),
        ({"cell": "2048"}, 400, "bad-parameter", "cell"),
        ({"cell": "0"}, 400, "bad-parameter", "cell"),
        ({"cell": "x"}, 400, "bad-parameter", "cell"),
        ({"level": "99"}, 400, "bad-parameter", "level"),
        ({"bbox": "1,2,3"}, 400, "bad-parameter", "bbox"),
        ({"bbox-crs": "EPSG:3413"}, 400, "bad-parameter", "bbox-crs"),
        ({"crs": "EPSG:0"}, 400, "bad-parameter", "crs"),
        ({"datetime": "2020"}, 400, "bad-parameter", "datetime"),
        ({"properties": "depth"}, 404, "unknown-band", None),
        ({"bands": "dem"}, 400, "bad-parameter", "bands"),
    ],
)
def test_nonsense_is_refused_by_name(daemon, query, status, kind, parameter):
    for path in ("inventory", "inventory/events"):
        answer = daemon.http.get(daemon.path(path), params=query)
        assert (answer.status_code, answer.json()["kind"]) == (status, kind)
        assert answer.json().get("parameter") == parameter
    if status == 413:
        assert "cell=16" in answer.json()["hint"]
        assert daemon.http.get(daemon.path("inventory"), params={"cell": "16"}).status_code == 200
    assert daemon.http.get("/collections/none/inventory").status_code == 404


# After a restart


@asynccontextmanager
async def opened(folder, standins):
    """The whole daemon in this process, in front of the stand-ins."""
    settings = Settings(cache_dir=folder, collections=("arcticdem-32m",), mirrors=standins.mirrors)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
            yield http


async def test_after_a_restart_voids_are_voids(tmp_path, standins):
    base = "/collections/arcticdem-32m"
    places = {"void": FAR, "present": (441, 883)}
    for _ in range(2):
        async with opened(tmp_path, standins) as http:
            for state, place in places.items():
                where = around(*place)
                found = (await http.get(f"{base}/inventory", params=where)).json()
                if not found["features"]:
                    await http.get(f"{base}/coverage.npy", params={**where, "level": "0"})
                    found = (await http.get(f"{base}/inventory", params=where)).json()
                assert [entry["properties"]["state"] for entry in found["features"]] == [state]
                assert found["unsure"] == 0
            hits = (await http.get("/status")).json()["hits"]
    assert hits["chunks_asked"] == 0, "the second daemon has fetched nothing: it has found them"


# Live


def test_a_listener_sees_a_load_come_and_go(daemon, place, fresh_standins):
    where, name = around(place.row, place.col), f"0/{place.row}/{place.col}"
    url = f"{daemon.url}{daemon.path('inventory/events')}"
    listener = Listener(url, where)
    kind, found = listener.next()
    assert (kind, found["type"], found["features"]) == ("inventory", "FeatureCollection", [])
    assert listener.answer.headers["content-type"].startswith("text/event-stream")
    fresh_standins.faults([Fault(path="*_dem.tif", action=Stall(seconds=600))])
    with in_thread(lambda: load(daemon, place.row, place.col)):
        kind, found = listener.next()
        fresh_standins.reset()
        (feature,) = found["features"]
        assert (kind, feature["id"], feature["properties"]["state"]) == ("change", name, "in flight")
        kind, found = listener.next()
        (feature,) = found["features"]
        assert (kind, feature["properties"]["state"], found["gone"]) == ("change", "present", [])
        assert feature == features(daemon, where)[name]
    daemon.http.post(daemon.path("truncate"), params=where)
    assert listener.next() == ("change", {"features": [], "gone": [name]})
    assert Listener(url, where).next()[1]["features"] == []


def test_head_of_events_ends(daemon, place):
    where = around(place.row, place.col)
    answer = daemon.http.head(daemon.path("inventory/events"), params=where)
    assert (answer.status_code, answer.content) == (200, b"")


def test_streams_are_bounded_freed_and_end_with_the_daemon(start_daemon):
    """Clients that leave give their place back; SIGTERM waits for no reader, not even for one that sleeps."""
    with start_daemon({"ICEHOUSE_MAX_EVENT_STREAMS": "3", "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as daemon:
        paths = ["/status/events", f"{daemon.path('inventory/events')}?cell=64"]

        def tasks():
            text = daemon.http.get("/metrics").text
            return next(
                float(line.split()[1]) for line in text.splitlines() if line.startswith("icehouse_tasks ")
            )

        def open_stream(path):
            stream = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n\r\n".encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
            return stream

        before = tasks()
        streams = [open_stream(path) for path in (*paths, paths[0])]
        for path in paths:
            refused = daemon.http.get(path)
            assert (refused.status_code, refused.json()["kind"]) == (503, "busy")
            assert "max_event_streams" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) > 0
        for stream in streams:
            stream.close()
        until(lambda: tasks() <= before)
        streams = [open_stream(path) for path in paths]
        listener = Listener(f"{daemon.url}{paths[0]}")
        listener.next()
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert listener.ended.wait(15)
        assert daemon.process.wait(15) == 0
        assert time.monotonic() - begun < 15, "shutdown_timeout is 20 s"
        for stream in streams:
            stream.close()
