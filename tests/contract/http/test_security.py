"""The rules of reliability.md 1.1 as far as HTTP keeps them. `pytest -k rule_10` runs one of them.

| rule | what | where |
|---|---|---|
| 1, 3, 7 | Sizes, numbers, CRS, polygons, nesting | `test_security_input.py`, `test_nonsense.py` |
| 2, 4 | Full queues, deadlines | `tests/faults/`, `tests/unit/downloads/test_downloads.py` |
| 5, 6, 15 | What comes from a source | `tests/unit/`, `tests/contract/` and `tests/faults/` of the sources |
| 8 | Names in paths | here, `test_security_input.py` |
| 9, 12 | Where it listens; the token | `test_security_token.py`, `test_token.py`, `test_client_token.py` |
| 10, 11 | Host, foreign pages | here, `test_security_token.py` |
| 13 | Connections, heads, bodies | `test_security_connections.py` |
| 14 | No paths, no secrets in answers and logs | here, `test_observability.py` |
| - | What the process writes | `test_security_process.py` |
"""

from __future__ import annotations

import json
import re

import pytest

from icehouse_server.demo.faults import Fault, Status

PLAN = {
    "proj:code": "EPSG:3413",
    "proj:transform": [32, 0, -712_000, 0, -32, 2_650_000],
    "proj:shape": [8, 8],
}


def request(daemon, *headers, method="GET", path="/conformance", body=b""):
    """Send a request with exactly these headers; return status, headers and body."""
    lines = [f"{method} {path} HTTP/1.1", *(header.format(port=daemon.port) for header in headers)]
    lines += ["Connection: close", *([f"Content-Length: {len(body)}"] if body else [])]
    answer = daemon.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split(maxsplit=2)[1])
    found = dict(line.lower().split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
    return status, found, rest


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}"],
)
def test_rule_10_a_host_that_is_ours(daemon, host):
    assert request(daemon, f"Host: {host}")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "127.0.0.1",
        "localhost:1",
        "localhost.:{port}",
        "localhost:{port}.",
        "localhost:0{port}",
        "localhost:{port}:{port}",
        "127.0.0.1.nip.io:{port}",
        "evil.example:{port}",
        "evil.example",
        "evil.example#localhost:{port}",
        "localhost:{port}@evil.example",
        "evil.example, localhost:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "0.0.0.0:{port}",
        "[::]:{port}",
        "[::ffff:127.0.0.1]:{port}",
    ],
)
def test_rule_10_a_host_that_is_not_ours(daemon, host):
    status, headers, body = request(daemon, f"Host: {host}")
    assert status == 421
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["kind"] == "host-refused"


def test_rule_10_no_host_and_two_hosts(daemon):
    assert request(daemon)[0] in {400, 421}
    assert request(daemon, "Host: localhost:{port}", "Host: evil.example")[0] in {400, 421}
    assert request(daemon, "Host: localhost:{port}", "Host: localhost:{port}")[0] in {400, 421}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ([], True),
        (["Origin: http://localhost:{port}"], True),
        (["Origin: http://localhost:{port}", "Sec-Fetch-Site: same-origin"], True),
        (["Sec-Fetch-Site: none"], True),
        (["Sec-Fetch-Site: cross-site"], False),
        (["Sec-Fetch-Site: same-site"], False),
        (["Sec-Fetch-Site: "], False),
        (["Origin: null"], False),
        (["Origin: http://localhost"], False),
        (["Origin: http://localhost:1"], False),
        (["Origin: http://127.0.0.1:{port}"], False),
        (["Origin: http://evil.example"], False),
        (["Origin: http://localhost:{port}.evil.example"], False),
        (["Origin: http://evil.example", "Sec-Fetch-Site: same-origin"], False),
        (["Origin: http://localhost:{port}", "Sec-Fetch-Site: cross-site"], False),
    ],
)
def test_rule_11_a_post_from_a_page(daemon, headers, allowed):
    common = ["Host: localhost:{port}", "Content-Type: application/json"]
    path, body = daemon.path("plan"), json.dumps(PLAN).encode()
    status, found, answer = request(daemon, *common, *headers, method="POST", path=path, body=body)
    assert status == (200 if allowed else 403)
    assert not any(name.startswith("access-control-") for name in found)
    if not allowed:
        assert json.loads(answer)["kind"] == "cross-site-refused"


def test_rule_11_no_cors(daemon):
    origin = {"origin": "http://evil.example"}
    preflight = {**origin, "access-control-request-method": "POST"}
    for answer in (
        daemon.http.get("/collections", headers=origin),
        daemon.http.options(daemon.path("coverage"), headers=preflight),
    ):
        assert not any(name.startswith("access-control-") for name in answer.headers)


def test_rule_11_every_route_refuses_foreign_pages_and_forms(daemon):
    described = daemon.http.get("/openapi.json").json()["paths"]
    unsafe = [(method, path) for path, methods in described.items() for method in methods if method != "get"]
    assert len(unsafe) >= 3
    for method, path in unsafe:
        target = re.sub(r"{\w+}", "x", path)
        for page in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            answer = daemon.http.request(method, target, headers=page)
            assert (answer.status_code, answer.json()["kind"]) == (403, "cross-site-refused")
        for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            if method == "post":
                answer = daemon.http.post(target, content=b"{}", headers={"content-type": media})
                assert answer.status_code == 415, (target, answer.text)


def test_rule_11_no_path_answers_a_preflight(daemon):
    page = {"origin": "http://evil.example", "access-control-request-headers": "authorization"}
    for path in daemon.http.get("/openapi.json").json()["paths"]:
        for method in ("POST", "GET", "DELETE"):
            headers = {**page, "access-control-request-method": method}
            answer = daemon.http.options(re.sub(r"{\w+}", "x", path), headers=headers)
            assert answer.status_code >= 400
            assert not any(name.startswith("access-control-") for name in answer.headers)


def test_rule_11_a_get_changes_nothing_but_what_it_fills(daemon, place):
    def state():
        return daemon.http.get("/readyz").json()["collections"]

    before = state()
    for path in ("/", "/collections", "/conformance", "/metrics", daemon.path("schema")):
        daemon.http.get(path)
    daemon.get("plan", **place.query())
    assert state() == before
    daemon.get(**place.query())
    assert state()["arcticdem-32m"]["chunks"] == before["arcticdem-32m"]["chunks"] + 1


def test_rule_13_headers_have_a_limit(daemon):
    status, _, _ = request(daemon, "Host: localhost:{port}", "X-Long: " + "x" * 200_000)
    assert status == 431
    status, _, _ = request(daemon, "Host: localhost:{port}", *(f"X-{n}: 1" for n in range(5000)))
    assert status == 431


@pytest.mark.parametrize(
    "path",
    [
        "/collections/../../etc/passwd",
        "/collections/..%2f..%2fetc%2fpasswd",
        "/collections/%2e%2e/coverage",
        "/collections/..%5c..%5cetc",
        "/collections/arcticdem-32m%00/coverage",
        "/collections/arcticdem-32m%2f..%2farcticdem-2m",
        "/collections/ARCTICDEM-32M",
        "/collections/arcticdem-32m/",
        "/collections//coverage",
        "/docs-static/../../../etc/passwd",
        "/docs-static/..%2f..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/nope",
    ],
)
def test_rule_8_a_path_leads_nowhere_else(daemon, path):
    status, headers, body = request(daemon, "Host: localhost:{port}", path=path)
    assert status == 404
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["kind"] in {"not-found", "unknown-collection"}
    assert b"root:" not in body


@pytest.mark.parametrize(("status", "answers"), [(403, 502), (404, 502), (500, 502), (503, 502)], ids=str)
def test_rule_14_errors_show_no_path_and_no_signed_url(daemon, fresh_standins, place, status, answers):
    fresh_standins.faults([Fault(action=Status(status=status), path="*_dem.tif", times=None)])
    answer = daemon.get(**place.query())
    assert answer.status_code == answers
    document = answer.json()
    assert document["kind"] == "chunks-failed"
    assert document["chunks"][0]["item"]
    for secret in (str(daemon.cache_dir), "/tmp", "Traceback", "site-packages", "?", str(daemon.port)):
        assert secret not in answer.text
    assert not re.search(r"[?&](X-Amz|sig|token)", answer.text)


def test_rule_14_the_answers_do_not_name_their_server(daemon):
    assert "server" not in daemon.http.get("/").headers
