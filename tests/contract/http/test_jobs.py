"""Jobs over HTTP, against a real daemon and the stand-ins."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial

import httpx
import psutil
import pytest
from pyproj import Transformer
from typer.testing import CliRunner

from icehouse_server.cli.commands import app as command_line
from icehouse_server.demo.faults import Fault, Status
from icehouse_server.demo.object_builder import Variant
from icehouse_server.testing import waiting

BASE = "/collections/arcticdem-32m"
until = partial(waiting.until, seconds=30)
CHUNK_M = 256 * 32
LEFT, TOP = -4_000_096, 4_100_096
TILE = "45_73"
ROW, COL = 441, 883
"""Chunks in tile 45_73."""


def bounds(row=0, col=0, rows=2, cols=2):
    """The box of some whole chunks of the tile."""
    west, north = LEFT + (COL + col) * CHUNK_M, TOP - (ROW + row) * CHUNK_M
    return [west, north - rows * CHUNK_M, west + cols * CHUNK_M, north]


def query(*place, **more):
    return {"bbox": ",".join(map(str, bounds(*place))), "bbox-crs": "EPSG:3413", **more}


def body(*place, **more):
    return {"bbox": bounds(*place), "bbox-crs": "EPSG:3413", **more}


SLOW = (0, -3, 9, 10)
"""90 chunks inside of the tile: many blocks, so a seed of them takes a while."""


@pytest.fixture(scope="module")
def daemon(start_daemon, standins):
    standins.prepare([standins.key("32m", TILE), standins.key("32m", TILE, "count")])
    settings = {
        "ICEHOUSE_COLLECTIONS": "arcticdem-32m",
        "ICEHOUSE_MAX_JOB_CHUNKS": "5000",
        "ICEHOUSE_MAX_JOBS": "20",
        "ICEHOUSE_FETCH_BUDGET": "60",
        "ICEHOUSE_BLOCK_SIDE": "256",
        "ICEHOUSE_BLOCKS_PER_COLLECTION": "2",
    }
    with start_daemon(settings) as started:
        yield started


@pytest.fixture(autouse=True)
def empty(daemon, fresh_standins):
    """Nothing is cached, and nothing under way."""
    for job in daemon.http.get("/jobs").json()["jobs"]:
        daemon.http.delete(f"/jobs/{job['jobID']}")
    daemon.wait_idle()  # a block that has begun is kept, and would land after the truncate
    ended(daemon, daemon.http.post(f"{BASE}/truncate"))
    yield
    fresh_standins.shape()


def ended(daemon, answer, seconds=60):
    """The end of a job that was just started."""
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{daemon.url}/jobs/{answer.json()['jobID']}"
    end = time.monotonic() + seconds
    while True:
        found = daemon.http.get(answer.headers["location"]).json()
        if found["status"] not in {"accepted", "running"}:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.02)


def seed(daemon, *place, **more):
    return ended(daemon, daemon.http.post(f"{BASE}/seed", json=body(*place, **more)))


def pixels(daemon, *place, **options):
    return daemon.http.get(f"{BASE}/coverage.npy", params=query(*place), **options)


def counts(found):
    return {name: value for name, value in found["chunks"].items() if value}


# What a job does


def test_a_seed_leaves_nothing_to_fetch(daemon, fresh_standins):
    found = ended(daemon, daemon.http.post(f"{BASE}/seed", params=query()))
    assert (found["status"], found["progress"], found["type"]) == ("successful", 100, "process"), found
    assert (found["processID"], found["collection"], found["bands"]) == ("seed", "arcticdem-32m", ["dem"])
    assert counts(found) == {"total": 4, "fetched": 4}
    assert found["region"] == query()
    assert found["fetched_bytes"] == found["estimated_source_bytes"] == 4 * 256 * 256 * 4
    before = fresh_standins.counters().requests
    assert pixels(daemon).headers["cache-status"] == "icehouse; hit"
    assert fresh_standins.counters().requests == before


def test_a_seed_fetches_only_what_is_absent(daemon, fresh_standins):
    seed(daemon, 0, 0, 1, 2)
    assert counts(seed(daemon)) == {"total": 4, "present": 2, "fetched": 2}
    before = fresh_standins.counters().requests
    assert counts(seed(daemon)) == {"total": 4, "present": 4}
    assert fresh_standins.counters().requests == before


def test_regions_in_every_form(daemon):
    west, _, _, north = bounds()
    geobox = {
        "proj:code": "EPSG:3413",
        "proj:transform": [64, 0, west, 0, -64, north],
        "proj:shape": [128, 128],
    }
    lon, lat = Transformer.from_crs(3413, 4326, always_xy=True).transform(west + 4000, north - 4000)
    ring = [[lon, lat], [lon + 0.01, lat], [lon + 0.01, lat + 0.01], [lon, lat]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    for given in (geobox, {"geometry": polygon}, {"bbox": [lon, lat, lon + 0.01, lat + 0.01]}):
        found = ended(daemon, daemon.http.post(f"{BASE}/seed", json=given))
        assert found["status"] == "successful"
        assert found["region"] == given
        if "bbox" not in given:  # the same body is a plan's
            assert daemon.http.post(f"{BASE}/plan", json=given).json()["chunks"]["absent"] == 0


def test_a_refresh_brings_what_the_source_has_now(daemon, fresh_standins):
    seed(daemon)
    first = pixels(daemon)
    key = fresh_standins.key("32m", TILE)
    fresh_standins.lies({key: Variant(add=7.0)})
    # The first who asks for it waits until it is built; no source takes that long.
    assert httpx.get(fresh_standins.cogs_url + key, headers={"Range": "bytes=0-9"}, timeout=150).is_success
    assert pixels(daemon).content == first.content

    before = fresh_standins.stac_counters().requests
    found = ended(daemon, daemon.http.post(f"{BASE}/refresh", json=body(-4, -4, 9, 9)))
    assert counts(found) == {"total": 4, "fetched": 4}
    assert fresh_standins.stac_counters().requests > before, "documents are asked for anew, too"
    assert pixels(daemon).content != first.content
    assert pixels(daemon).headers["etag"] != first.headers["etag"]
    old = daemon.http.get(f"{BASE}/coverage.npy", params=query(snapshot=first.headers["icehouse-snapshot"]))
    assert old.content == first.content


def test_truncate_deletes_and_a_load_fetches_anew(daemon):
    seed(daemon)
    found = ended(daemon, daemon.http.post(f"{BASE}/truncate", params=query(0, 0, 1, 1)))
    assert counts(found) == {"total": 1, "dropped": 1}
    assert daemon.http.get(f"{BASE}/plan", params=query()).json()["chunks"]["absent"] == 1
    assert pixels(daemon).headers["cache-status"] == "icehouse; fwd=partial; stored"
    found = ended(daemon, daemon.http.post(f"{BASE}/truncate"))
    dropped = found["chunks"]["dropped"]
    assert (counts(found), found["region"]) == ({"total": dropped, "dropped": dropped}, {})
    assert dropped >= 4, "other tests leave some elsewhere"
    assert len(found["bands"]) > 1


def test_gc(daemon):
    found = ended(daemon, daemon.http.post("/gc"))
    assert (found["status"], found["processID"], found["collection"]) == ("successful", "gc", None)


def test_a_failing_item_is_named_and_the_rest_is_kept(daemon, fresh_standins):
    fresh_standins.faults([Fault(path="*_count.tif", action=Status(status=403), times=None)])
    found = seed(daemon, bands=["dem", "count"])
    assert (found["status"], found["kind"]) == ("failed", "chunks-failed")
    assert found["chunks"]["failed"] == 4 == len(found["failures"])
    assert found["chunks"]["total"] == 8
    failure = found["failures"][0]
    assert failure["chunk"].startswith("count/c/")
    assert failure["kind"] == "source-refused"
    assert TILE in failure["item"]
    assert "4 of 8" in found["message"]


def test_a_load_beside_a_large_seed_comes_at_once(daemon, fresh_standins):
    seed(daemon, 0, 0, 1, 1)
    fresh_standins.shape(latency=0.2)
    job = daemon.http.post(f"{BASE}/seed", json=body(*SLOW)).json()["jobID"]
    until(lambda: daemon.http.get("/readyz").json()["downloads"]["running"])
    assert pixels(daemon, 0, 0, 1, 1).headers["cache-status"] == "icehouse; hit"
    assert pixels(daemon, 8, 6, 1, 1).status_code == 200
    found = daemon.http.delete(f"/jobs/{job}").json()
    assert found["status"] == "dismissed"  # else the load would have come after it
    assert found["chunks"]["fetched"] < 90
    until(lambda: not daemon.http.get("/readyz").json()["downloads"]["queued"])


# What is refused


@pytest.mark.parametrize(
    ("word", "options", "status", "kind", "parameter"),
    [
        ("seed", {}, 400, "bad-parameter", "bbox"),
        ("seed", {"json": {}}, 422, "bad-body", "bbox"),
        ("seed", {"params": {"all": "true"}}, 413, "too-large", None),
        ("seed", {"json": {"all": True}}, 413, "too-large", None),
        ("seed", {"params": {"all": "yes"}}, 400, "bad-parameter", "all"),
        ("seed", {"params": query(all="true")}, 400, "bad-parameter", "all"),
        ("seed", {"params": query(bands="depth")}, 404, "unknown-band", None),
        ("seed", {"params": query(bands="dem", properties="dem")}, 400, "bad-parameter", "bands"),
        ("seed", {"params": query(width="9")}, 400, "bad-parameter", "width"),
        ("seed", {"params": {"bbox": "1,2,3"}}, 400, "bad-parameter", "bbox"),
        ("seed", {"params": {"bbox-crs": "EPSG:3413"}}, 400, "bad-parameter", "bbox-crs"),
        ("seed", {"params": query(), "json": body()}, 400, "bad-parameter", "bbox"),
        ("seed", {"json": {"bbox": [1, 2, 3]}}, 422, "bad-body", "bbox"),
        ("seed", {"json": {"bbox": [3, 2, 1, "4"]}}, 422, "bad-body", "bbox.3"),
        ("seed", {"json": body(geometry={"type": "Polygon"})}, 422, "bad-body", "geometry"),
        ("seed", {"json": {"proj:code": "EPSG:3413"}}, 422, "bad-body", "proj:transform"),
        ("seed", {"json": {"width": 9}}, 422, "bad-body", "width"),
        ("refresh", {"json": {"all": True}}, 422, "bad-body", "all"),
        ("truncate", {"params": {"all": "true"}}, 400, "bad-parameter", "all"),
        ("truncate", {"content": b"bbox=1", "headers": {"Content-Type": "text/plain"}}, 415, None, None),
    ],
)
def test_nonsense_is_refused_by_name(daemon, word, options, status, kind, parameter):
    answer = daemon.http.post(f"{BASE}/{word}", **options)
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert kind in {None, found["kind"]}
    assert found.get("parameter") == parameter
    assert status != 413 or found["setting"] == "max_job_chunks"


def test_outside(daemon):
    for word in ("seed", "refresh", "truncate"):
        assert daemon.http.post(f"{BASE}/{word}", json={"bbox": [0, 0, 1, 1]}).status_code == 204
    assert daemon.http.post("/collections/none/seed", params=query()).status_code == 404


def test_foreign_pages_may_start_nothing_and_end_nothing(daemon):
    foreign = {"Origin": "https://evil.example"}
    assert daemon.http.post(f"{BASE}/truncate", headers=foreign).status_code == 403
    assert daemon.http.post("/gc", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    job = daemon.http.post(f"{BASE}/truncate").json()["jobID"]
    assert daemon.http.delete(f"/jobs/{job}", headers=foreign).status_code == 403


# Looking at jobs


def test_jobs_are_listed_in_pages_the_newest_first(daemon):
    names = [ended(daemon, daemon.http.post("/gc"))["jobID"] for _ in range(3)]
    first = daemon.http.get("/jobs", params={"limit": "2"}).json()
    assert [job["jobID"] for job in first["jobs"]] == names[:0:-1]
    (following,) = [link["href"] for link in first["links"] if link["rel"] == "next"]
    second = daemon.http.get(following).json()
    assert second["jobs"][0]["jobID"] == names[0]
    assert first["total"] == second["total"]
    assert "prev" in {link["rel"] for link in second["links"]}
    for wrong in ("0", "-1", "1001", "x", ""):
        assert daemon.http.get("/jobs", params={"limit": wrong}).json()["parameter"] == "limit"
    assert daemon.http.get("/jobs", params={"page": "2"}).json()["total"] == first["total"], "ignored"


def test_links_lead_somewhere(daemon):
    found = seed(daemon)
    for link in found["links"]:
        with daemon.http.stream("GET", link["href"]) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(link["type"])
    words = {link["rel"]: link["href"] for link in daemon.http.get(BASE).json()["links"]}
    assert words["jobs"] == f"{daemon.url}/jobs"


def test_an_unknown_job(daemon):
    for method, path in (("GET", "/jobs/0"), ("DELETE", "/jobs/0"), ("GET", "/jobs/0/events")):
        answer = daemon.http.request(method, path)
        assert (answer.status_code, answer.json()["kind"]) == (404, "unknown-job")


def test_a_job_that_is_over_is_forgotten_by_a_second_delete(daemon):
    job = f"/jobs/{ended(daemon, daemon.http.post('/gc'))['jobID']}"
    assert daemon.http.delete(job).json()["status"] == "successful"
    assert daemon.http.get(job).status_code == 404


def test_metrics_count_jobs_by_state(daemon):
    ended(daemon, daemon.http.post("/gc"))
    lines = dict(line.rsplit(" ", 1) for line in daemon.http.get("/metrics").text.splitlines())
    assert float(lines['icehouse_jobs{state="successful"}']) >= 1


# Server-sent events


def events(lines):
    """(event, data) of a stream."""
    name = None
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


@contextmanager
def slow_seed(daemon, standins, latency=0.3):
    """A seed that takes a while."""
    standins.shape(latency=latency)
    answer = daemon.http.post(f"{BASE}/seed", json=body(*SLOW))
    yield answer.headers["location"]
    daemon.http.delete(answer.headers["location"])
    standins.shape()


def test_events_tell_of_changes_and_of_the_end(daemon, fresh_standins):
    with slow_seed(daemon, fresh_standins) as job:
        with daemon.http.stream("GET", f"{job}/events", headers={"Last-Event-ID": "999"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            seen = []
            for name, found in events(answer.iter_lines()):
                seen.append((name, found["status"]))
                if len(seen) == 2:
                    daemon.http.delete(job)
        assert seen[0][0] == "progress"
        assert seen[-1] == ("end", "dismissed")
        assert {name for name, _ in seen[:-1]} == {"progress"}
        with daemon.http.stream("GET", f"{job}/events") as answer:  # it is over: the answer says so at once
            assert [name for name, _ in events(answer.iter_lines())] == ["end"]


def test_head_of_events_ends(daemon, fresh_standins):
    with slow_seed(daemon, fresh_standins) as job:
        answer = daemon.http.head(f"{job}/events")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")


def test_readers_that_vanish_leave_nothing_behind(daemon, fresh_standins):
    process = psutil.Process(daemon.process.pid)

    def open_here():
        return sum(connection.laddr.port == daemon.port for connection in process.net_connections())

    def tasks():
        text = daemon.http.get("/metrics").text
        return next(
            float(line.split()[1]) for line in text.splitlines() if line.startswith("icehouse_tasks ")
        )

    before, connections = tasks(), open_here()
    with slow_seed(daemon, fresh_standins, latency=1.0) as job:
        path, streams = job.removeprefix(daemon.url), []
        for _ in range(20):
            stream = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)
            stream.sendall(f"GET {path}/events HTTP/1.1\r\nHost: 127.0.0.1:{daemon.port}\r\n\r\n".encode())
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
            streams.append(stream)
        assert tasks() >= before + 20
        assert open_here() == connections + 20
        for stream in streams:
            stream.close()
        until(lambda: open_here() == connections)
    until(lambda: tasks() <= before, seconds=60)


# Prefer


def ask_later(daemon, prefer, **options):
    return daemon.http.request(
        options.pop("method", "GET"),
        f"{BASE}/coverage",
        headers={"Prefer": prefer},
        **{"params": query(f="npy"), **options},
    )


def test_who_prefers_not_to_wait_gets_a_job_and_then_the_region(daemon, fresh_standins):
    fresh_standins.shape(latency=0.2)
    answer = ask_later(daemon, "respond-async")
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["cache-control"] == "no-store"
    job = answer.headers["location"]
    assert answer.json()["jobID"] == job.rpartition("/")[2]
    assert ask_later(daemon, "respond-async; x=1, foo").headers["location"] == job  # one job for one region
    until(lambda: daemon.http.get(job).json()["status"] == "successful")
    answer = ask_later(daemon, "respond-async")
    assert (answer.status_code, answer.headers["cache-status"]) == (200, "icehouse; hit")


def test_who_waits_a_while_gets_the_region_if_it_comes(daemon, fresh_standins):
    assert ask_later(daemon, "wait=60").status_code == 200
    fresh_standins.shape(latency=2.0)
    place = {"params": query(4, 4, f="npy")}
    answer = ask_later(daemon, "wait=1, respond-async", **place)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async, wait=1"
    assert ask_later(daemon, "wait=soon", params=query(0, 0, f="npy")).status_code == 200


def test_a_body_may_be_answered_later_too(daemon, fresh_standins):
    fresh_standins.shape(latency=0.2)
    west, _, _, north = bounds(6, 6)
    geobox = {"proj:code": "EPSG:3413", "proj:transform": [32, 0, west, 0, -32, north], "proj:shape": [9, 9]}
    answer = ask_later(daemon, "respond-async", method="POST", params={"f": "npy"}, json=geobox)
    assert answer.status_code == 202
    assert answer.json()["region"] == geobox
    params = query(6, 6, f="npy")
    headers = {"Prefer": "respond-async", "Cache-Control": "only-if-cached"}
    answer = daemon.http.get(f"{BASE}/coverage", params=params, headers=headers)
    assert answer.json()["kind"] == "not-cached"
    assert ask_later(daemon, "respond-async", params={"bbox": "0,0,1,1"}).status_code == 204


# The command line


REGION = ("--bbox", query()["bbox"], "--bbox-crs", "EPSG:3413")


@pytest.fixture
def icehouse_command(daemon):
    """Runs `icehouse ...` in this process."""

    def run(*words):
        return CliRunner().invoke(command_line, [*map(str, words), "--url", daemon.url])

    return run


def test_commands_wait_and_say_what_was_done(icehouse_command):
    for words, said in (
        (("seed", "arcticdem-32m", *REGION), "seed successful: 4 chunks fetched, 0 were cached"),
        (("refresh", "arcticdem-32m", *REGION), "refresh successful: 4 chunks fetched again"),
        (("truncate", "arcticdem-32m", *REGION, "--bands", "dem"), "truncate successful: 4 chunks deleted"),
        (("gc",), "gc successful: "),
    ):
        done = icehouse_command(*words)
        assert (done.exit_code, done.stdout[: len(said)]) == (0, said)
    listed = icehouse_command("jobs").stdout
    assert all(word in listed for word in ("seed arcticdem-32m", "truncate", "gc", "successful"))


def test_commands_answer_in_json(icehouse_command):
    done = json.loads(icehouse_command("seed", "arcticdem-32m", *REGION, "--json").stdout)
    assert (done["status"], counts(done)) == ("successful", {"total": 4, "fetched": 4})
    jobs = json.loads(icehouse_command("jobs", "--json").stdout)
    assert jobs[0] == done
    assert json.loads(icehouse_command("jobs", done["jobID"], "--json").stdout) == done


def test_a_job_may_be_left_alone_and_ended(icehouse_command, fresh_standins):
    fresh_standins.shape(latency=0.3)
    box = ("--bbox", query(*SLOW)["bbox"], "--bbox-crs", "EPSG:3413")
    started = icehouse_command("seed", "arcticdem-32m", *box, "--no-wait")
    name = started.stdout.partition(":")[0]
    assert f"icehouse jobs {name} --wait" in started.stdout
    assert "dismissed" in icehouse_command("jobs", "--cancel", name).stdout
    waited = icehouse_command("jobs", name, "--wait")
    assert (waited.exit_code, "seed dismissed" in waited.stdout) == (1, True)


def test_a_job_that_fails_is_a_command_that_fails(icehouse_command, fresh_standins):
    fresh_standins.faults([Fault(path="*_count.tif", action=Status(status=403), times=None)])
    done = icehouse_command("seed", "arcticdem-32m", *REGION, "--bands", "count")
    assert done.exit_code == 1
    assert "4 of 4 chunks could not be filled" in done.stdout
    assert done.stderr.count("(source-refused)") == 4
    hint = json.loads(icehouse_command("jobs", "--json").stdout)[0]["hint"]
    assert done.stderr.splitlines()[-1] == f"  hint: {hint}"
    assert "fail_on_error" not in hint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("seed", "arcticdem-32m"), "a seed needs a region"),
        (("seed", "arcticdem-32m", "--all"), "the limit is"),
        (("seed", "arcticdem-32m", "--bbox", "0,0,1,1"), "outside"),
        (("jobs", "0"), "no job '0'"),
    ],
)
def test_refusals_are_said(icehouse_command, words, said):
    assert said in icehouse_command(*words).exception.detail


def test_ctrl_c_ends_the_job(daemon, fresh_standins, tmp_path):
    fresh_standins.shape(latency=0.3)
    words = ["seed", "arcticdem-32m", "--bbox", query(*SLOW)["bbox"], "--bbox-crs", "EPSG:3413"]
    before = {job["jobID"] for job in daemon.http.get("/jobs").json()["jobs"]}

    def mine():
        return [job for job in daemon.http.get("/jobs").json()["jobs"] if job["jobID"] not in before]

    command = [sys.executable, "-m", "icehouse_server", *words, "--url", daemon.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr.readline().startswith("seed ")  # its first line says how it goes
        process.send_signal(signal.SIGINT)
        assert "seed dismissed" in process.stderr.read()
        assert process.wait(30) == 130
    assert [job["status"] for job in mine()] == ["dismissed"]


# The end of the daemon


TOKEN = {"Authorization": "Bearer 0123456789abcdef"}


def check_token(daemon):
    """Jobs are started and ended with the token alone; looking needs none."""
    for path in (f"{BASE}/seed", f"{BASE}/refresh", f"{BASE}/truncate", "/gc"):
        assert daemon.http.post(path).status_code == 401
    job = f"/jobs/{ended(daemon, daemon.http.post('/gc', headers=TOKEN))['jobID']}"
    assert daemon.http.delete(job).status_code == 401
    assert daemon.http.get("/jobs").status_code == 200
    assert daemon.http.delete(job, headers=TOKEN).status_code == 200


def test_stopping_a_daemon_with_token_ends_jobs_and_streams(start_daemon, fresh_standins):
    settings = {"ICEHOUSE_TOKEN": TOKEN["Authorization"][7:], "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}
    with start_daemon(settings) as daemon:
        check_token(daemon)
        fresh_standins.shape(latency=0.5)
        answer = daemon.http.post(f"{BASE}/seed", json=body(*SLOW), headers=TOKEN)
        reported, ready = [], threading.Event()

        def listen():
            url = f"{answer.headers['location']}/events"
            with httpx.stream("GET", url, timeout=60, trust_env=False) as stream:
                for name, found in events(stream.iter_lines()):
                    reported.append((name, found["status"], found["message"]))
                    ready.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert ready.wait(30)
        daemon.process.send_signal(signal.SIGTERM)
        listener.join(30)
        assert reported[-1][:2] == ("end", "dismissed")
        assert "stops" in reported[-1][2]
        assert daemon.process.wait(30) == 0
