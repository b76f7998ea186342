"""The transports keep one contract: sockets, httpx, and an application in this process."""

from __future__ import annotations

import contextlib
import pickle
import time

import pytest
from odc.geo.xr import ODCExtensionDa  # noqa: F401 - registers .odc
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import icehouse
from icehouse._httpx import HttpxTransport
from icehouse._native import NativeTransport
from icehouse._transport import Deadline

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(params=[NativeTransport, HttpxTransport])
def transport(request, daemon):
    made = request.param(daemon.url)
    yield made
    made.close()


def ask(transport, daemon, seconds=5.0, **options):
    options = {"headers": {"X-Test": "1"}, "body": None, **options}
    return transport.request("GET", "/x", deadline=Deadline(seconds, daemon.url), **options)


def test_an_answer_is_whole_and_writable(transport, daemon):
    seen = []
    payload = bytes(range(256)) * 2000
    daemon.script.append(lambda _h: (418, {"X-Answer": "Yes"}, payload))
    answer = ask(transport, daemon, on_bytes=lambda *step: seen.append(step))
    assert (answer.status, answer.header("x-answer"), answer.header("none")) == (418, "Yes", "")
    assert bytes(answer.body) == payload
    answer.body[0] = 1
    assert seen[-1] == (len(payload), len(payload))
    assert daemon.requests[0].headers["X-Test"] == "1"


def test_connections_are_kept(transport, daemon):
    for size in (0, 10, 100_000):
        daemon.script.append(lambda _h, size=size: (200, {}, b"x" * size))
        assert len(ask(transport, daemon).body) == size
    assert daemon.connections == 1


def test_an_answer_of_unknown_length(transport, daemon):
    def until_closed(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")

    daemon.script.append(until_closed)
    seen = []
    assert bytes(ask(transport, daemon, on_bytes=lambda *step: seen.append(step)).body) == b"abc"
    assert seen == [(3, 3)]
    assert ask(transport, daemon).status == 200


def test_a_short_answer(transport, daemon):
    def short(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc")

    daemon.script.append(short)
    with pytest.raises(icehouse.ProtocolError):
        ask(transport, daemon)
    assert ask(transport, daemon).status == 200


def test_a_trickle_ends_in_time(transport, daemon):
    def trickle(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                handler.wfile.write(b"x")
                time.sleep(0.03)

    daemon.script.append(trickle)
    start = time.monotonic()
    with pytest.raises(icehouse.ClientTimeout):
        ask(transport, daemon, seconds=0.3)
    assert time.monotonic() - start < 20


def make_app(double, log, *, broken=False):
    @contextlib.asynccontextmanager
    async def lifespan(_app):
        if broken:
            raise RuntimeError("no disk")
        log.append("open")
        yield {"opened": True}
        log.append("close")

    async def coverage(request):
        assert request.state.opened
        box = double.box_of(await request.json())
        return Response(double.encode_zip(double.answer_arrays(box)), media_type="application/vnd.zarr")

    async def collections(_request):
        return JSONResponse({"collections": [{"id": "dem"}]})

    async def fault(_request):
        raise RuntimeError("a bug")

    routes = [
        Route("/collections/dem/coverage", coverage, methods=["POST"]),
        Route("/collections", collections),
        Route("/collections/fault", fault),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def test_from_app(double, box):
    log = []
    with icehouse.Client.from_app(make_app(double, log)) as client:
        assert log == ["open"]
        ds = client.load(box, progress=lambda _step: None)
        assert ds.odc.geobox == box
        ds.dem.values[0] = 1
        with pytest.raises(TypeError, match="from_app"):
            pickle.dumps(client)
        with pytest.raises(icehouse.ServerError):
            client.metadata("fault")
    assert log == ["open", "close"]
    client.close()


def test_from_app_that_fails_to_start(double):
    with pytest.raises(icehouse.ServerError, match="no disk"):
        icehouse.Client.from_app(make_app(double, [], broken=True))


def test_from_app_without_lifespan_and_too_slow():
    async def app(scope, _receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        import asyncio

        await asyncio.sleep(scope["path"] == "/readyz" and 30)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"collections": []}'})

    with icehouse.Client.from_app(app) as client:
        assert client.collections() == []
        with pytest.raises(icehouse.ClientTimeout):
            client._session.get_json("/readyz", timeout=0.2)
