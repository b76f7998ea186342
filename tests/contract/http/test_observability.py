"""What a running daemon says of itself: lines, ids from client to source, figures; and what it never says."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
import rasterio
from prometheus_client.parser import text_string_to_metric_families

import icehouse
from icehouse_server.demo.faults import Fault, Stall, Status
from icehouse_server.testing.waiting import until

ROUTE = "/collections/{collection}/coverage"
IDS = "icehouse-request-id"


def lines(daemon, event=None, **members):
    """The log's lines, each of which is JSON, whatever was asked."""
    whole = daemon.log.read_text().rpartition("\n")[0]  # the last one may be half written
    found = [json.loads(line) for line in whole.splitlines()]
    return [
        line
        for line in found
        if event in {None, line["event"]} and members.items() <= {k: str(v) for k, v in line.items()}.items()
    ]


def line(daemon, event, **members):
    """The one such line; it is written just after the last byte has left."""
    (found,) = until(lambda: lines(daemon, event, **members))
    return found


def blocks(daemon):
    """Blocks under way."""
    return daemon.http.get("/status").json()["downloads"]["blocks"]


def fetches(daemon, request_id):
    return [entry for entry in lines(daemon, "fetch") if request_id in entry["request_ids"]]


def figure(daemon, name, **labels):
    families = text_string_to_metric_families(daemon.http.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


# One line a request, one a fetch


def test_a_cold_load_in_the_log(daemon, place):
    answer = daemon.get(**place.query(), f="npy")
    assert answer.status_code == 200
    request = line(daemon, "request", request_id=answer.headers[IDS])
    assert {
        "level": "info",
        "method": "GET",
        "route": ROUTE,
        "path": daemon.path("coverage"),
        "status": 200,
        "bytes": len(answer.content),
        "format": "npy",
        "cache": "miss",
        "chunks": 1,
        "present": 0,
        "fetched": 1,
        "joined": 0,
        "failed": 0,
    }.items() <= request.items()
    assert "kind" not in request
    assert "gone" not in request
    timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
    assert {name: float(value) for name, value in timing.items()} == request["stages"]
    assert {"plan", "fetch", "commit", "read"} <= set(timing)
    assert sum(request["stages"].values()) <= request["ms"]
    (fetch,) = fetches(daemon, answer.headers[IDS])
    assert {
        "collection": "arcticdem-32m",
        "outcome": "ok",
        "chunks": 1,
        "bands": ["dem"],
        "row": place.row,
        "col": place.col,
        "tries": 1,
        "request_ids": [answer.headers[IDS]],
        "requests_in_all": 1,
    }.items() <= fetch.items()
    assert fetch["source_bytes"] > 0
    assert fetch["source_requests"] > 0
    assert fetch["items"]
    assert "request_id" not in fetch  # a fetch belongs to no single request
    assert fetch["ms"] <= request["ms"]


def test_a_warm_load_in_the_log(daemon, place):
    daemon.get(**place.query())
    before = figure(daemon, "icehouse_answers_total", format="zarr", cache="hit")
    answer = daemon.get(**place.query(), f="zarr")
    request = line(daemon, "request", request_id=answer.headers[IDS])
    assert (request["cache"], request["present"], request["fetched"]) == ("hit", 1, 0)
    assert "fetch" not in request["stages"]
    assert not fetches(daemon, answer.headers[IDS])
    assert figure(daemon, "icehouse_answers_total", format="zarr", cache="hit") == before + 1


def test_requests_for_one_chunk_are_in_the_log_line_of_its_fetch(daemon, place, fresh_standins):
    fresh_standins.faults([Fault(action=Stall(seconds=600), path="*_dem.tif")])
    url, asked = f"{daemon.url}{daemon.path('coverage')}", []

    def load(name):
        asked.append(httpx.get(url, params=place.query(), headers={IDS: name}, timeout=60))

    names = [f"together-{place.row}-{place.col}-{number}" for number in range(3)]
    threads = [threading.Thread(target=load, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    until(lambda: [block["waiting"] for block in blocks(daemon)] == [3])
    fresh_standins.reset()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in asked] == [200] * 3
    (fetch,) = fetches(daemon, names[0])
    assert sorted(fetch["request_ids"]) == names
    cache = [line(daemon, "request", request_id=name)["cache"] for name in names]
    assert sorted(cache) == ["collapsed", "collapsed", "miss"]


def test_a_failure_has_its_kind_in_all_lines_and_figures(daemon, place, fresh_standins):
    def figures():
        return [
            figure(daemon, "icehouse_problems_total", kind="chunks-failed"),
            figure(daemon, "icehouse_chunks_failed_total", kind="source-unavailable"),
            figure(daemon, "icehouse_retries_total", kind="source-unavailable"),
        ]

    before = figures()
    fresh_standins.faults([Fault(action=Status(status=503), path="*_dem.tif", times=None)])
    answer = daemon.get(**place.query())
    assert answer.status_code == 502
    request = line(daemon, "request", request_id=answer.headers[IDS])
    assert (request["status"], request["kind"]) == (502, "chunks-failed")
    assert (request["chunks"], request["failed"], request["fetched"]) == (1, 1, 1)
    (fetch,) = fetches(daemon, answer.headers[IDS])
    assert (fetch["outcome"], fetch["tries"]) == ("source-unavailable", 2)
    assert fetch["items"]
    retry = line(daemon, "retry", fetch_id=fetch["fetch_id"])
    assert (retry["level"], retry["kind"], retry["attempt"]) == ("info", "source-unavailable", 2)
    assert retry["collection"] == "arcticdem-32m"
    assert "503" in retry["cause"]
    assert retry["waited_ms"] > 0
    assert [after - then for after, then in zip(figures(), before, strict=True)] == [1, 1, 1]
    degraded = daemon.http.get("/readyz").json()["collections"]["arcticdem-32m"]["degraded"]
    assert [reason["code"] for reason in degraded] == ["source-unavailable"]
    fresh_standins.reset()
    assert daemon.get(**place.query()).status_code == 200
    assert daemon.http.get("/readyz").json()["collections"]["arcticdem-32m"]["degraded"] == []


def test_a_client_that_hangs_up(daemon, place, fresh_standins):
    before = figure(daemon, "icehouse_clients_gone_total")
    fresh_standins.faults([Fault(action=Stall(seconds=600), path="*_dem.tif")])
    name = f"gone-{place.row}-{place.col}"
    query = httpx.QueryParams(place.query())
    head = f"GET {daemon.path('coverage')}?{query} HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port)) as connection:
        connection.sendall(f"{head}Icehouse-Request-Id: {name}\r\n\r\n".encode())
        until(lambda: blocks(daemon))
    request = line(daemon, "request", request_id=name)
    assert request["gone"] is True
    assert request["status"] == 499
    assert figure(daemon, "icehouse_clients_gone_total") == before + 1


# Ids


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 64])
def test_the_clients_id_is_taken(daemon, name):
    name = f"{name[:-8]}{time.monotonic_ns() % 10**8:08}"[-64:]
    answer = daemon.http.get("/healthz", headers={IDS: name})
    assert answer.headers.get_list(IDS) == [name]
    assert line(daemon, "request", request_id=name)["path"] == "/healthz"


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "ü", 'a"b', "{}", "a,b"])
def test_an_id_that_could_spoil_a_log_is_replaced(daemon, name):
    answer = daemon.http.get("/healthz", headers=[(IDS, name.encode())])
    (own,) = answer.headers.get_list(IDS)
    assert re.fullmatch("[0-9a-f]{12}", own)
    assert line(daemon, "request", request_id=own)


def test_a_w3c_trace_id_stands_in_the_line(daemon):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = daemon.http.get("/healthz", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert line(daemon, "request", request_id=answer.headers[IDS])["trace_id"] == trace
    for broken in ("00-zz-00f067aa0ba902b7-01", f"00-{trace}\n", trace):
        answer = daemon.http.get("/healthz", headers=[("traceparent", broken.strip().encode())])
        assert "trace_id" not in line(daemon, "request", request_id=answer.headers[IDS])


def test_the_clients_exception_names_the_request_in_the_log(daemon, place, fresh_standins):
    fresh_standins.faults([Fault(action=Status(status=503), path="*_dem.tif", times=None)])
    body = place.body()
    box = icehouse.GeoBox(
        crs="EPSG:3413", transform=tuple(body["proj:transform"]), shape=tuple(body["proj:shape"])
    )
    with (
        icehouse.Client(daemon.url, "arcticdem-32m") as client,
        pytest.raises(icehouse.SourceFailed) as caught,
    ):
        client.load(box)
    name = caught.value.request_id
    assert name in str(caught.value)
    assert line(daemon, "request", request_id=name)["kind"] == "chunks-failed"
    assert fetches(daemon, name)


# Lines that can't be forged


@pytest.mark.parametrize(
    "path",
    [
        "/a%0D%0Ab",
        '/%0A{"event": "request"}',
        "/%1B[31mred",
        "/%E2%80%A8",
        "/%00",
        "/%C2%9B",
        "/" + "x" * 5000,
    ],
)
def test_a_path_can_not_break_its_line(daemon, path):
    answer = daemon.http.get(path.replace(" ", "%20"))
    assert answer.status_code == 404
    request = line(daemon, "request", request_id=answer.headers[IDS])
    assert request["path"].isprintable()
    assert len(request["path"]) <= 400
    assert (request["route"], request["kind"]) == ("unmatched", "not-found")


def test_what_libraries_log_is_a_line_too(daemon):
    assert daemon.raw(b"\x00\x01 no HTTP at all\r\n\r\n").startswith(b"HTTP/1.1 400")
    said = until(lambda: lines(daemon, logger="uvicorn.error"))
    assert said[0]["level"] == "warning"


# Figures


def test_figures_of_the_parts(daemon, place):
    names = ("icehouse_commit_seconds_count", "icehouse_commit_chunks_sum", "icehouse_fetch_seconds_count")
    before = [figure(daemon, name) for name in names]
    daemon.get(**place.query())
    assert [figure(daemon, name) - then for name, then in zip(names, before, strict=True)] == [1, 1, 1]
    for name in ("icehouse_flights", "icehouse_answers_waiting", "icehouse_blocks_oldest_seconds"):
        assert figure(daemon, name) == 0
    for name in (
        "icehouse_tasks",
        "icehouse_threads",
        "icehouse_decoded_chunks",
        "icehouse_disk_free_bytes",
        "icehouse_blocks_queued_limit",
        "icehouse_loop_delay_seconds_count",
        "process_open_fds",
        "process_resident_memory_bytes",
    ):
        assert figure(daemon, name) > 0, name
    text = daemon.http.get("/metrics").text
    for pool in ("compute", "io"):
        assert f'icehouse_pool_queued{{pool="{pool}"}} 0.0' in text
    assert 'icehouse_collection_blocks_running{collection="arcticdem-32m"} 0.0' in text


def test_labels_stay_few_whatever_is_asked(daemon):
    for number in range(20):
        daemon.http.get(f"/nothing/{number}")
        daemon.http.request("PROPFIND", f"/nothing/{number}")
        daemon.http.get(f"/collections/none-{number}/coverage", params={"f": f"x{number}"})
    families = list(text_string_to_metric_families(daemon.http.get("/metrics").text))
    (requests,) = [family for family in families if family.name == "icehouse_requests"]
    routes = {sample.labels["route"] for sample in requests.samples}
    assert not [route for route in routes if "none-" in route or "nothing" in route]
    methods = {sample.labels["method"] for sample in requests.samples}
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


# Not ready


def test_a_daemon_that_can_not_keep_anything_says_so(start_daemon):
    with start_daemon({"ICEHOUSE_DISK_FLOOR": str(2**60), "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as daemon:
        answer = daemon.http.get("/readyz")
        assert answer.status_code == 503
        document = answer.json()
        assert document["ready"] is False
        assert [reason["code"] for reason in document["reasons"]] == ["disk-low"]
        assert str(2**60) in document["reasons"][0]["detail"]
        assert daemon.http.get("/healthz").status_code == 200
        daemon.cache_dir.rename(daemon.cache_dir.with_name("elsewhere"))
        time.sleep(1.1)  # a look counts for a second
        codes = {reason["code"]: reason for reason in daemon.http.get("/readyz").json()["reasons"]}
        assert codes.keys() == {"cache-folder-gone", "repository-unreadable"}
        assert codes["repository-unreadable"]["collection"] == "arcticdem-32m"
        assert str(daemon.cache_dir) not in json.dumps(codes)
        daemon.cache_dir.with_name("elsewhere").rename(daemon.cache_dir)


# Secrets

SIGNATURE, TOKEN, PASSWORD = "s1gnature-NEVER-shown", "t0ken-NEVER-shown-1234", "passw0rd-NEVER-shown"
SECRETS = (SIGNATURE, TOKEN, PASSWORD)
WAYS = (
    "right",
    "refused",
    "busy",
    "broken",
    "dropped",
    "redirected",
    "as-user",
    "no-range",
    "page",
    "asked-again",
)
"""What the source does with the item of each column."""
COVERAGE = "/collections/signed/coverage"


class Host(BaseHTTPRequestHandler):
    """A STAC API and object store of signed links, in one."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        name = self.path.partition("?")[0].rpartition("/")[2]
        if "/items/" in self.path:
            self.item(int(name.partition("_")[2]))
        elif "/collections/" in self.path:
            self.reply(200, b'{"id": "signed"}')
        elif f"sig={SIGNATURE}" in self.path or name == "as-user.tif":
            getattr(self, name.removesuffix(".tif").replace("-", "_"))()
        else:
            self.reply(403, b"no signature")

    def item(self, column):
        way = WAYS[column - 1]
        if way == "asked-again" and self.server.asked.count(self.server.asked[-1]) < 2:
            self.close_connection = True  # urllib3 tries again by itself, and would log what it asks
            return
        host = f"127.0.0.1:{self.server.server_port}"
        user = f"user:{PASSWORD}@" if way == "as-user" else ""
        href = f"http://{user}{host}/files/{way}.tif?sig={SIGNATURE}&token={TOKEN}"
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"01_{column:02d}",
            "geometry": None,
            "properties": {"datetime": "2020-01-01T00:00:00Z"},
            "links": [],
            "collection": "signed",
            "assets": {"dem": {"href": href}},
        }
        self.reply(200, json.dumps(item).encode())

    def reply(self, status, body, **headers):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def right(self):
        data = self.server.rasters[WAYS.index(self.path.partition("?")[0].rpartition("/")[2][:-4])]
        start, stop = map(int, re.findall(r"\d+", self.headers["Range"]))
        part = data[start : stop + 1]
        self.reply(206, part, Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(data)}", ETag='"1"')

    asked_again = right

    def refused(self):
        self.reply(403, f"<Error><Url>{self.path}</Url></Error>".encode())

    def busy(self):
        self.reply(503, self.path.encode(), Retry_After="0")

    def broken(self):
        self.reply(206, b"II*\x00" + self.path.encode() * 50, Content_Range="bytes 0-65535/70000")

    def dropped(self):
        self.close_connection = True

    def redirected(self):
        self.reply(302, b"", Location=f"http://elsewhere.invalid/x.tif?sig={SIGNATURE}&token={TOKEN}")

    as_user = right

    def no_range(self):
        self.reply(200, self.server.rasters[0])

    def page(self):
        self.reply(200, f"<html>{self.path}</html>".encode())


def raster(left):
    """A file of 64 x 64 pixels whose left edge is there."""
    buffer = io.BytesIO()
    affine = rasterio.Affine(32, 0, left, 0, -32, 2048)
    with rasterio.open(
        buffer, "w", driver="GTiff", dtype="float32", count=1, width=64, height=64, crs="EPSG:3413",
        transform=affine, nodata=-9999.0, tiled=True, blockxsize=64, blockysize=64,
    ) as file:  # fmt: skip
        file.write(np.ones((1, 64, 64), dtype="float32"))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def host():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.daemon_threads, server.asked = True, []
    server.rasters = [raster(2048 * place) for place in range(len(WAYS))]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


COLLECTION = """
id = "signed"
title = "Signed links"
license = "CC0-1.0"
[grid]
crs = "EPSG:3413"
resolution = 32
bounds = [0, 0, {width}, 2048]
chunk = 64
[extent]
bbox = [-180.0, 50.0, 180.0, 90.0]
[source]
type = "stac"
api = "http://127.0.0.1:{port}/api"
collection = "signed"
[source.tiling]
origin = [0, 0]
size = 2048
rows = [1, 1]
columns = [1, {columns}]
item = "{{row:02d}}_{{col:02d}}"
[[bands]]
name = "dem"
dtype = "float32"
nodata = -9999.0
[bands.source]
asset = "dem"
"""


@pytest.fixture(scope="module")
def signed(start_daemon, host, tmp_path_factory):
    """A daemon at its most talkative, whose source has signed links."""
    folder = tmp_path_factory.mktemp("collections")
    text = COLLECTION.format(port=host.server_port, columns=len(WAYS), width=2048 * len(WAYS))
    (folder / "signed.toml").write_text(text)
    settings = {
        "ICEHOUSE_COLLECTIONS_DIR": str(folder),
        "ICEHOUSE_COLLECTIONS": "signed",
        "ICEHOUSE_LOG_LEVEL": "debug",
        "ICEHOUSE_MIRRORS": "{}",
        "ICEHOUSE_TOKEN": TOKEN,
    }
    with start_daemon(settings) as daemon:
        yield daemon


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_in_any_line_or_answer(signed, host, way):
    left = 2048 * WAYS.index(way)
    query = {"bbox": f"{left},0,{left + 2048},2048", "bbox-crs": "EPSG:3413", "token": TOKEN}
    wrong = {"Authorization": f"Bearer {PASSWORD}"}
    answers = [
        signed.http.get(COVERAGE, params=query)
    ]  # a parameter that is not read is refused, without being repeated
    assert answers[0].status_code == 400
    del query["token"]
    answers += [signed.http.get(COVERAGE, params={**query, "f": form}) for form in ("zarr", "json", "netcdf")]
    answers += [
        signed.http.get("/readyz", headers=wrong),
        signed.http.get("/metrics"),
        signed.http.get("/collections/signed/plan", params=query),
    ]
    assert (answers[1].status_code == 200) == (way in {"right", "asked-again"}), answers[1].text
    reached = [headers for path, headers in host.asked if f"/{way}.tif" in path and SIGNATURE in path]
    assert reached or way == "as-user"  # the secret was there to be shown
    for answer in answers:
        shown = f"{answer.headers}{answer.content.decode('latin-1')}"
        assert not [secret for secret in SECRETS if secret in shown]
    name = answers[1].headers[IDS]
    assert line(signed, "request", request_id=name)
    (fetch,) = fetches(signed, name)
    asked = lines(signed, "source_request", fetch_id=fetch["fetch_id"])
    assert len(asked) == fetch["source_requests"]
    assert all(entry["url"].startswith("http://127.0.0.1:") for entry in asked)
    sent = {headers.get("X-Request-ID") for headers in reached}
    assert fetch["fetch_id"] in sent or way == "as-user"
    text = signed.log.read_text()
    assert not [secret for secret in SECRETS if secret in text]
    assert lines(signed, "commit") or way != "right"
