"""A defect in a route: 500 with a problem document, its line in the log, and the request's id on both."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx
import pytest
import structlog
from starlette.responses import StreamingResponse

from icehouse_server.api import Access, create_api
from icehouse_server.core.addresses import HostPattern

ACCESS = Access(allowed_hosts=(HostPattern.parse("test"),))


@pytest.fixture
async def http():
    @asynccontextmanager
    async def lifespan(_):
        yield

    app = create_api(version="0", max_body_bytes=1000, access=ACCESS, lifespan=lifespan)
    seen = []
    app.state.icehouse = SimpleNamespace(metrics=SimpleNamespace(observe=lambda *said: seen.append(said)))

    @app.get("/broken")
    async def broken():
        raise KeyError("secret")

    @app.get("/no-memory")
    async def no_memory():
        raise MemoryError

    @app.get("/broken-off")
    async def broken_off():
        async def pieces():
            yield b"half"
            raise KeyError("secret")

        return StreamingResponse(pieces())

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        client.seen = seen
        yield client


async def test_a_defect_is_answered_with_the_requests_id(http):
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        answer = await http.get("/broken", headers={"icehouse-request-id": "mine-1"})
    assert answer.status_code == 500
    assert answer.headers["icehouse-request-id"] == "mine-1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["kind"] == "internal"
    assert "secret" not in answer.text
    defect, request = lines
    assert defect["log_level"] == "error"
    assert "secret" in defect["error"]
    assert (request["status"], request["kind"]) == (500, "internal")
    assert defect["request_id"] == request["request_id"] == "mine-1"
    assert http.seen[0][2] == 500


async def test_an_answer_that_breaks_off_is_cut(http):
    with pytest.raises(KeyError):
        await http.get("/broken-off")
    assert http.seen[0][2] == 200


async def test_a_failed_allocation_is_busy_and_no_defect(http):
    answer = await http.get("/no-memory")
    assert answer.status_code == 503
    assert answer.json()["kind"] == "busy"
    assert int(answer.headers["Retry-After"]) > 0
