"""Jobs through the client: what is asked, how it is waited for, what a bad end raises."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle

import pytest
from odc.geo.geom import BoundingBox
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import icehouse

FAILURES = [{"chunk": "dem/c/1/1", "kind": "source-corrupt", "detail": "broken", "item": "scene"}]
ID = "0f" * 16


def document(status="successful", **more):
    chunks = {"total": 9, "present": 2, "fetched": 6, "failed": 1, "dropped": 0, "new": 3}
    return {
        "jobID": ID,
        "status": status,
        "progress": 50,
        "message": "6 of 9 chunks",
        "chunks": chunks,
        "failures": [],
        **more,
    }


def says(*documents, status=200):
    """Scripted answers."""
    head = {"Content-Type": "application/json"}
    return [lambda _h, d=found: (status, head, json.dumps(d).encode()) for found in documents]


@pytest.fixture
def job(client):
    return client.job(ID)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("icehouse._jobs._FIRST_WAIT", 0.001)


@pytest.mark.parametrize("word", ["seed", "refresh", "truncate"])
def test_what_is_asked(client, daemon, box, word):
    polygon = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    corners = BoundingBox(1, 2, 3, 4, "EPSG:3413")
    geobox = {"proj:code": "EPSG:3413", "proj:transform": [32, 0, -1600, 0, -32, 3200], "proj:shape": [6, 5]}
    cases = [
        ((box,), {}, geobox),
        ((box,), {"bands": "mad"}, {**geobox, "bands": ["mad"]}),
        (((1, 2, 3, 4),), {"bands": ("dem", "mad")}, {"bbox": [1, 2, 3, 4], "bands": ["dem", "mad"]}),
        (([1, 2, 3, 4],), {"crs": 3413}, {"bbox": [1, 2, 3, 4], "bbox-crs": "EPSG:3413"}),
        ((corners,), {}, {"bbox": [1, 2, 3, 4], "bbox-crs": "EPSG:3413"}),
        ((polygon,), {}, {"geometry": polygon}),
        ((), {}, {}),
    ]
    for how in (client, client["dem"]):
        for region, options, body in cases:
            daemon.script = says(document("accepted"), status=201)
            started = getattr(how, word)(*region, **options)
            assert (started.id, started.url) == (ID, f"{daemon.url}/jobs/{ID}")
            asked = daemon.requests[-1]
            assert (asked.method, asked.path, asked.body) == ("POST", f"/collections/dem/{word}", body)


def test_a_whole_collection_is_named_in_words(client, daemon):
    daemon.script = says(document("accepted"), status=201)
    client.seed(whole=True)
    assert daemon.requests[-1].body == {"all": True}


@pytest.mark.parametrize(
    ("region", "options"),
    [
        ((1, 2, 3), {}),
        ("150,65,151,66", {}),
        (7, {}),
        ({"type": "Polygon"}, {"crs": "EPSG:3413"}),
        (None, {"crs": "EPSG:3413"}),
    ],
)
def test_what_is_no_region_is_refused_before_anything_is_asked(client, daemon, region, options):
    with pytest.raises(icehouse.BadParameter):
        client.seed(region, **options)
    assert not daemon.requests


def test_refusals_of_the_daemon(client, daemon, box, double):
    daemon.script = [lambda _h: (204, {}, b"")]
    with pytest.raises(icehouse.OutsideCollection):
        client.seed(box)
    daemon.script = [double.problem("too-large", 413, setting="max_job_chunks")]
    with pytest.raises(icehouse.TooLarge):
        client.seed(box)
    daemon.script = says({"no": "job"}, status=201)
    with pytest.raises(icehouse.ProtocolError):
        client.seed(box)


def test_status(job, daemon):
    daemon.script = says(document("running", new=1))
    status = job.status()
    assert (status.state, status.progress, status.message, status.over) == (
        "running",
        50,
        "6 of 9 chunks",
        False,
    )
    assert status.chunks == icehouse.JobChunks(total=9, present=2, fetched=6, failed=1, dropped=0)
    assert status.document["new"] == 1
    daemon.script = says({"status": "running"})
    with pytest.raises(icehouse.ProtocolError):
        job.status()


def test_wait_asks_until_it_is_over_and_tells_how_it_goes(job, daemon):
    daemon.script = says(document("accepted"), document("running"), document())
    seen = []
    assert job.wait(progress=lambda status: seen.append(status.state)) is job
    assert seen == ["accepted", "running", "successful"]


def test_progress_on_stderr(job, daemon, capsys):
    daemon.script = says(document("running"), document())
    job.wait(progress=True)
    assert capsys.readouterr().err.endswith("icehouse: successful, 6 of 9 chunks\n")


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ({"status": "failed", "kind": "chunks-failed", "failures": FAILURES}, "chunks-failed"),
        ({"status": "failed", "kind": "disk-full", "hint": "make room, then ask again"}, "disk-full"),
        ({"status": "failed"}, "job-failed"),
        ({"status": "dismissed"}, "job-dismissed"),
    ],
)
def test_a_bad_end_raises(job, daemon, end, kind):
    daemon.script = says(document("running"), document(**end))
    with pytest.raises(icehouse.JobFailed) as raised:
        job.wait()
    assert raised.value.kind == kind
    assert ID in str(raised.value)
    assert end.get("hint", "") in str(raised.value)
    again = pickle.loads(pickle.dumps(raised.value))
    assert again.chunks == end.get("failures", [])
    assert again.problem["jobID"] == ID


def test_a_wait_that_is_too_long_leaves_the_job_alone(job, daemon):
    daemon.script = says(*[document("running")] * 2000)
    with pytest.raises(TimeoutError) as raised:
        job.wait(timeout=0.05)
    assert isinstance(raised.value, icehouse.ClientTimeout)
    assert {request.method for request in daemon.requests} == {"GET"}


def test_cancel(job, daemon):
    daemon.script = says(document("running"), document("dismissed"))
    assert job.cancel().state == "dismissed"
    assert [request.method for request in daemon.requests] == ["GET", "DELETE"]
    daemon.script = says(document())
    assert job.cancel().over
    assert daemon.requests[-1].method == "GET"  # a second DELETE would make the daemon forget it


def test_a_job_that_is_forgotten(job, daemon, double):
    daemon.script = [double.problem("unknown-job", 404)]
    with pytest.raises(icehouse.NotFound):
        job.wait()


def test_all_jobs(client, daemon):
    daemon.script = says({"jobs": [document(), document(jobID="1f" * 16)]})
    assert [job.id for job in client.jobs()] == [ID, "1f" * 16]
    daemon.script = says({})
    with pytest.raises(icehouse.ProtocolError):
        client.jobs()
    assert client.job("../readyz").url == f"{daemon.url}/jobs/..%2Freadyz"


def test_pickles(job, daemon):
    daemon.script = says(document("running"))
    again = pickle.loads(pickle.dumps(job))
    assert (again.id, again.url, repr(again)) == (job.id, job.url, repr(job))
    assert again.status().state == "running"


def _wait(job):
    job.wait(20)
    return os.getpid()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_another_process_waits(job, daemon):
    daemon.script = says(document("running"), document("running"), document())
    job.status()
    with multiprocessing.get_context("fork").Pool(1) as workers:
        assert workers.apply_async(_wait, (job,)).get(60) != os.getpid()


def test_over_httpx_and_inside_of_the_process(daemon, box):
    from icehouse._httpx import HttpxTransport

    with icehouse.Client(daemon.url, "dem") as client:
        client._session._transport = HttpxTransport(daemon.url)
        daemon.script = [
            *says(document("accepted"), status=201),
            *says(document("running"), document("dismissed")),
        ]
        assert client.seed(box).cancel().state == "dismissed"

    async def answer(request):
        return JSONResponse(document("dismissed" if request.method == "DELETE" else "running"))

    routes = [
        Route("/collections/dem/seed", answer, methods=["POST"]),
        Route("/jobs/{job}", answer, methods=["GET", "DELETE"]),
    ]
    with icehouse.Client.from_app(Starlette(routes=routes), "dem") as client:
        assert client.seed(box).cancel().state == "dismissed"
