"""The status over HTTP and on the command line, against a real daemon and the stand-ins."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import datetime

import httpx
import pytest
from typer.testing import CliRunner

from icehouse_server.cli.commands import app as command_line
from icehouse_server.demo.faults import Fault, Stall, Status
from icehouse_server.testing.waiting import until


def status(daemon):
    answer = daemon.http.get("/status")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def collection(document, name="arcticdem-32m"):
    (found,) = [entry for entry in document["collections"] if entry["id"] == name]
    return found


def test_what_it_says_of_a_daemon(daemon):
    document = status(daemon)
    assert document["ready"] is True
    assert document["reasons"] == []
    assert datetime.fromisoformat(document["started"]).tzinfo is not None
    assert document["uptime_seconds"] > 0
    assert collection(document)["title"] == "ArcticDEM v4.1 mosaic, 32 m"
    memory, disk = document["memory"], document["disk"]
    assert 0 < memory["decoded_limit"] < memory["answer_limit"]
    assert memory["resident_bytes"] > 10**7
    assert disk["cache_limit"] is None
    assert disk["free_bytes"] > disk["floor_bytes"] > 0
    measured = until(lambda: collection(status(daemon))["bytes"])
    assert status(daemon)["disk"]["cache_bytes"] >= measured > 0


def test_a_load_is_counted(daemon, place):
    until(lambda: collection(status(daemon))["bytes"] is not None)  # measured some time after the start
    before = status(daemon)
    assert daemon.get(**place.query()).status_code == 200
    after = status(daemon)
    assert collection(after)["chunks"] == collection(before)["chunks"] + 1
    assert collection(after)["levels"]["0"] == collection(before)["levels"].get("0", 0) + 1
    assert collection(after)["bytes"] > collection(before)["bytes"]
    fetches, then = after["downloads"], before["downloads"]
    assert fetches["chunks_fetched"] == then["chunks_fetched"] + 1
    assert fetches["source_bytes"] > then["source_bytes"]
    assert fetches["blocks_per_second"] > 0
    assert fetches["bytes_per_second"] > 0
    assert (fetches["queued"], fetches["running"], fetches["chunks_in_flight"]) == (0, 0, 0)
    daemon.get(**place.query())
    daemon.http.get(daemon.path(f"cube.zarr/dem/c/{place.row}/{place.col}"))
    hits, first = status(daemon)["hits"], before["hits"]
    assert hits["chunks_asked"] == first["chunks_asked"] + 3
    assert hits["chunks_cached"] == first["chunks_cached"] + 2
    assert hits["ratio"] == round(hits["chunks_cached"] / hits["chunks_asked"], 4)


def test_a_tile_that_fetches_nothing_asks_for_nothing(daemon):
    before = status(daemon)["hits"]
    answer = daemon.http.get(daemon.path("tiles/EPSG3413Quad/0/0/0"))
    assert int(answer.headers["icehouse-chunks-not-shown"]) > 0
    after = status(daemon)["hits"]
    shown = after["chunks_asked"] - before["chunks_asked"]
    assert shown == after["chunks_cached"] - before["chunks_cached"], "no miss: no caller wanted them fetched"


def test_blocks_and_jobs_under_way(daemon, place, fresh_standins):
    fresh_standins.faults([Fault(path="*_dem.tif", action=Stall(seconds=600), times=None)])
    answer = daemon.http.post(daemon.path("seed"), params=place.query())
    document = until(lambda: (found := status(daemon))["downloads"]["blocks"] and found)
    (block,) = document["downloads"]["blocks"]
    seconds = block.pop("seconds")
    assert seconds >= 0
    assert block == {
        "collection": "arcticdem-32m",
        "bands": ["dem"],
        "level": 0,
        "datetime": None,
        "row": place.row,
        "col": place.col,
        "rows": 1,
        "cols": 1,
        "chunks": 1,
        "state": "running",
        "waiting": 1,
    }
    assert document["downloads"]["chunks_in_flight"] == 1
    (job,) = document["jobs"]
    assert job == {
        "id": answer.json()["jobID"],
        "kind": "seed",
        "collection": "arcticdem-32m",
        "status": "running",
        "progress": 0,
        "chunks_done": 0,
        "chunks_total": 1,
    }
    with pytest.raises(TimeoutError, match="not idle"):
        daemon.wait_idle(0.2)
    fresh_standins.reset()
    daemon.wait_idle()
    assert not status(daemon)["jobs"]


def test_failures_are_said_in_words(daemon, place, fresh_standins):
    fresh_standins.faults([Fault(path="*_dem.tif", action=Status(status=403), times=None)])
    before = status(daemon)["downloads"]["chunks_failed"]
    assert daemon.get(**place.query()).status_code == 502
    document = status(daemon)
    assert document["downloads"]["chunks_failed"] == before + 1
    failure = document["downloads"]["failures"][0]
    assert datetime.fromisoformat(failure.pop("at")).tzinfo is not None
    assert "403" in failure.pop("detail")
    chunk = f"dem/c/{place.row}/{place.col}"
    assert failure == {"collection": "arcticdem-32m", "chunk": chunk, "kind": "source-refused"}
    assert [reason["code"] for reason in collection(document)["degraded"]] == ["source-refused"]
    said = CliRunner().invoke(command_line, ["status", "--url", daemon.url]).stdout
    assert f"arcticdem-32m {chunk}" in said
    assert "403" in said
    fresh_standins.reset()
    assert daemon.get(**place.query()).status_code == 200
    assert collection(status(daemon))["degraded"] == []


def test_the_command(daemon, place):
    daemon.get(**place.query())
    done = CliRunner().invoke(command_line, ["status", "--url", daemon.url])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ready")
    for begins in ("  arcticdem-32m: ", "  downloads: ", "  memory: ", "  disk: ", "  hits: "):
        assert any(line.startswith(begins) for line in lines), (begins, lines)
    document = json.loads(CliRunner().invoke(command_line, ["status", "--json", "--url", daemon.url]).stdout)
    assert document.keys() == status(daemon).keys()


def test_one_that_is_not_ready(start_daemon):
    with start_daemon({"ICEHOUSE_DISK_FLOOR": str(2**60), "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as daemon:
        document = status(daemon)
        assert (document["ready"], [reason["code"] for reason in document["reasons"]]) == (
            False,
            ["disk-low"],
        )
        done = CliRunner().invoke(command_line, ["status", "--url", daemon.url])
        assert done.exit_code == 1
        assert "not ready" in done.stdout
        assert "(disk-low)" in done.stdout


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_events_tell_of_changes_alone(daemon, place, method):
    if method == "HEAD":
        assert daemon.http.head("/status/events").content == b""
        return
    seen, more, enough = [], threading.Event(), threading.Event()

    def listen():
        with httpx.stream("GET", f"{daemon.url}/status/events", timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))
                    more.set()
                    if enough.is_set():
                        return

    thread = threading.Thread(target=listen)
    thread.start()
    assert more.wait(30)
    first = collection(seen[0])["chunks"]
    assert daemon.get(**place.query()).status_code == 200
    until(lambda: collection(seen[-1])["chunks"] == first + 1)
    without = [{**entry, "uptime_seconds": 0, "memory": 0, "disk": 0} for entry in seen]
    assert all(one != two for one, two in itertools.pairwise(without))
    enough.set()
    daemon.get(**daemon.place().query())
    thread.join(60)
    assert not thread.is_alive()
