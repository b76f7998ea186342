"""Rules 9, 11 and 12 of reliability.md 1.1: who may change something, and who may ask at all.

The rules of the other parts are in `test_security.py`.
"""

from __future__ import annotations

import asyncio
import base64
import sys

import pytest
from fastapi.routing import iter_route_contexts

import icehouse
from icehouse_server.api.middleware import tokens
from icehouse_server.api.routes.page import Page
from icehouse_server.app import create_app
from icehouse_server.cli import main
from icehouse_server.settings import Settings

TOKEN = "Zm9yIHRlc3RzIG9ubHkgLSBub3QgYSBzZWNyZXQ"
CHANGES = "/collections/arcticdem-32m/what-some-day-changes-something"
READS = {
    ("POST", "/collections/{collection}/coverage"),
    ("POST", "/collections/{collection}/plan"),
    ("POST", "/collections/{collection}/point"),
}
"""The only routes of an unsafe method that need no token on loopback: they fill the cache, as GET does."""
SAFE = {"GET", "HEAD", "OPTIONS"}
POINTS = {"points": [[150, 65]]}


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("token") / "token"
    path.touch(mode=0o600)
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture(scope="module")
def guarded(start_daemon, token_file):
    """One daemon with a token, on loopback."""
    settings = {"ICEHOUSE_TOKEN_FILE": str(token_file), "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}
    with start_daemon(settings) as started:
        yield started


def send(daemon, *headers, method="POST", path=CHANGES):
    """Send a request with exactly these headers; return its status line's number and the whole answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{daemon.port}", "Connection: close", *headers]
    answer = daemon.raw("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode("latin-1"))
    return int(answer.split(maxsplit=2)[1]), answer


def test_rule_12_the_right_token_lets_in(guarded):
    for scheme in ("Bearer", "bearer", "BEARER"):
        for space in (" ", "  "):
            assert send(guarded, f"Authorization: {scheme}{space}{TOKEN}")[0] in {404, 405}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Authorization:"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer "],
        [f"Authorization: {TOKEN}"],
        [f"Authorization: Bearer{TOKEN}"],
        [f"Authorization: Basic {TOKEN}"],
        ["Authorization: Basic " + base64.b64encode(f"user:{TOKEN}".encode()).decode()],
        [f"Authorization: Token {TOKEN}"],
        [f"Authorization: Bearer {TOKEN[:-1]}"],
        [f"Authorization: Bearer {TOKEN[1:]}"],
        [f"Authorization: Bearer {TOKEN}x"],
        [f"Authorization: Bearer {TOKEN}="],
        [f"Authorization: Bearer {TOKEN} {TOKEN}"],
        [f"Authorization: Bearer {TOKEN}, Bearer {TOKEN}"],
        [f'Authorization: Bearer "{TOKEN}"'],
        [f"Authorization: Bearer {TOKEN.lower()}"],
        ["Authorization: Bearer " + "wrong" * 8],
        ["Authorization: Bearer " + "\xe9" * len(TOKEN)],
        ["Authorization: Bearer " + TOKEN.replace("Z", "\xc3\x9a")],
        ["Authorization: Bearer " + "x" * 30_000],
        [f"Authorization: Bearer {TOKEN}" + "x" * 30_000],
        [f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"],
        [f"Authorization: Bearer {TOKEN}", "Authorization: Bearer wrong"],
        ["Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"],
        [f"Proxy-Authorization: Bearer {TOKEN}"],
        [f"X-Authorization: Bearer {TOKEN}"],
        [f"X-Api-Key: {TOKEN}"],
        [f"Cookie: token={TOKEN}"],
    ],
    ids=lambda headers: "; ".join(headers)[:60],
)
def test_rule_12_nothing_but_the_right_token_lets_in(guarded, headers):
    status, answer = send(guarded, *headers)
    assert status == 401
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b'www-authenticate: bearer realm="icehouse"' in head.lower()
    assert b'"kind":"unauthorized"' in body
    assert TOKEN.encode() not in answer


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization", "bearer"])
def test_rule_12_a_token_in_the_url_counts_for_nothing(guarded, name):
    assert send(guarded, path=f"{CHANGES}?{name}={TOKEN}")[0] == 401
    assert send(guarded, path=f"{CHANGES}?{name}=Bearer%20{TOKEN}")[0] == 401


def test_rule_12_comparison_takes_equally_long_for_wrong_tokens(monkeypatch):
    compared = []
    real = tokens.hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    guard = tokens.TokenGuard(
        None, rule=tokens.TokenRule(token=TOKEN.encode(), for_reading=False), reading=(), page=Page(None, {})
    )
    assert guard._is_right([f"Bearer {TOKEN}".encode()])
    assert not guard._is_right([b"Bearer wrong"])
    assert compared == [(TOKEN.encode(), TOKEN.encode()), (b"wrong", TOKEN.encode())]
    assert TOKEN not in repr(guard._rule)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "LOCK"])
@pytest.mark.parametrize(
    "path", ["/", "/jobs/1", "/collections", "/nope", "/healthz", "/docs-static/x", CHANGES]
)
def test_rule_11_what_could_change_something_needs_the_token(guarded, method, path):
    assert send(guarded, method=method, path=path)[0] == 401


@pytest.mark.parametrize(
    "path", ["/collections/a/plan/", "/collections/a/plan/x", "/collections//plan", "/x/collections/a/plan"]
)
def test_rule_11_lookalike_of_a_read_route_needs_the_token(guarded, path):
    assert send(guarded, path=path)[0] == 401


def test_rule_11_reading_needs_no_token_on_loopback(guarded):
    for headers in ({}, {"authorization": "Basic for-a-proxy"}, {"authorization": "Bearer wrong"}):
        assert guarded.http.get("/collections", headers=headers).status_code == 200
        assert guarded.http.head("/readyz", headers=headers).status_code == 200
        assert guarded.post("point", POINTS, headers=headers).status_code == 200
        assert guarded.post("plan", {}, headers=headers).status_code == 422
        assert guarded.post("coverage", {}, headers=headers).status_code == 422


def test_rule_11_a_foreign_page_is_refused_with_the_token_too(guarded):
    page = "Origin: http://evil.example"
    assert send(guarded, page, f"Authorization: Bearer {TOKEN}")[0] == 403
    assert send(guarded, "Host: evil.example", f"Authorization: Bearer {TOKEN}")[0] in {400, 421}


def test_rule_12_the_token_stands_in_no_log_line(guarded):
    for headers in ([f"Authorization: Bearer {TOKEN}"], [f"Authorization: Bearer {TOKEN}x"]):
        send(guarded, *headers)
        send(guarded, *headers, path=f"{CHANGES}?token={TOKEN}")
        send(guarded, *headers, "broken header")
    guarded.http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert CHANGES in guarded.log.read_text()
    assert TOKEN not in guarded.log.read_text()


def every_route(app):
    """(method, path) of every route, included routers and all."""
    for route in iter_route_contexts(app.routes):
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield method, route.path


@pytest.fixture
def app(tmp_path):
    """Makes the daemon in this process, as it would listen on some host."""

    def make(host, **settings):
        common = {"cache_dir": tmp_path / "cache", "collections": ("arcticdem-32m",), "host": host}
        return create_app(Settings(**common, allowed_hosts=("daemon",), **settings))

    return make


async def status(app, method, path, headers):
    """The status of one request, whose caller is gone once it has it: streams of events have no end."""
    begun = asyncio.Event()
    received = []
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        if message := next(messages, None):
            return message
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        received.append(message)
        begun.set()

    named = [(b"host", b"daemon"), *((name.encode(), value.encode()) for name, value in headers.items())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
    }
    scope |= {"scheme": "http", "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    await app(
        {**scope, "headers": named, "server": ("daemon", 80), "client": ("127.0.0.1", 9)}, receive, send
    )
    return received[0]["status"]


async def statuses(app, requests, headers=None):
    """The status of each (method, path)."""
    async with app.router.lifespan_context(app):
        return {
            (method, path): await status(
                app, method, path.replace("{collection}", "arcticdem-32m"), headers or {}
            )
            for method, path in requests
        }


async def test_rule_11_every_route_that_changes_something_is_guarded(app):
    made = app("127.0.0.1", token=TOKEN)
    found = set(every_route(made))
    assert {("GET", "/collections"), ("GET", "/openapi.json"), *READS} <= found
    unsafe = {(method, path) for method, path in found if method not in SAFE}
    answered = await statuses(made, unsafe)
    assert {request for request, status in answered.items() if status != 401} == READS


async def test_rule_9_on_open_networks_all_but_healthz_needs_the_token(app):
    made = app("0.0.0.0", token=TOKEN)
    requests = {*every_route(made), ("GET", "/nope"), ("OPTIONS", "/collections"), ("HEAD", "/metrics")}
    free = {("GET", "/healthz"), ("HEAD", "/healthz")}
    without = await statuses(made, requests | free)
    assert {request for request, status in without.items() if status != 401} == free
    assert without["GET", "/healthz"] == 200
    wrong = await statuses(made, requests, {"authorization": f"Bearer {TOKEN}x"})
    assert set(wrong) - free == {request for request, status in wrong.items() if status == 401}
    right = await statuses(made, requests, {"authorization": f"Bearer {TOKEN}"})
    assert 401 not in right.values()


async def test_rule_9_on_a_trusted_network_only_changes_need_it(app):
    made = app("0.0.0.0", token=TOKEN, trusted_network=True)
    found = await statuses(made, {("GET", "/collections"), ("DELETE", "/jobs/1")})
    assert found == {("GET", "/collections"): 200, ("DELETE", "/jobs/1"): 401}


async def test_rule_12_without_a_token_nothing_asks_for_one(app):
    found = await statuses(app("127.0.0.1"), {("GET", "/collections"), ("POST", CHANGES)})
    assert found == {("GET", "/collections"): 200, ("POST", CHANGES): 404}


def test_rule_12_client_and_command_line_send_the_files_token(
    guarded, token_file, icehouse_command, monkeypatch
):
    monkeypatch.setenv("ICEHOUSE_TOKEN_FILE", str(token_file))
    with icehouse.Client(guarded.url) as client, pytest.raises(icehouse.NotFound):
        client._session.send("DELETE", CHANGES, accept="*/*", deadline=client._session.deadline(20))
    with icehouse.Client(guarded.url, token="wrong") as client, pytest.raises(icehouse.NotAllowed):
        client._session.send("DELETE", CHANGES, accept="*/*", deadline=client._session.deadline(20))
    status, said = icehouse_command("status", "--url", guarded.url)
    assert (status, TOKEN in said) == (0, False)


@pytest.fixture
def icehouse_command(monkeypatch, capsys):
    """Runs `icehouse ...` in this process; returns its exit status and all that it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["icehouse", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("options", [[], ["--json"]], ids=str)
def test_rule_12_config_show_does_not_show_it(icehouse_command, monkeypatch, options):
    monkeypatch.setenv("ICEHOUSE_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table breaks the line
    status, said = icehouse_command("config", "show", *options)
    assert status == 0
    assert "environment ICEHOUSE_TOKEN" in said
    assert TOKEN not in said


def test_rule_12_a_token_that_can_not_be_one_is_not_shown_either(icehouse_command, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_TOKEN", "too short: hunter2")
    status, said = icehouse_command("serve")
    assert status == 1
    assert "token = (not shown)" in said
    assert "hunter2" not in said


def test_rule_12_the_command_line_asks_no_proxy(guarded, icehouse_command, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert icehouse_command("status", "--url", guarded.url)[0] == 0
