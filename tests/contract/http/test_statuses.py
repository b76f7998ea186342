"""Every refusal that HTTP knows is a problem document; no header, whatever it holds, is more than refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

BOX = "bbox=-712064,2649000,-711000,2650080&bbox-crs=EPSG:3413"
GEOBOX = (
    b'{"proj:code": "EPSG:3413", "proj:transform": [32, 0, -712000, 0, -32, 2650000], "proj:shape": [8, 8]}'
)
JSON = ["Content-Type: application/json"]


def ask(daemon, method, path, *headers, body=None):
    """Send a request as it is written; return status, headers and body of the answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: localhost:{daemon.port}", "Connection: close", *headers]
    lines += [] if body is None else [f"Content-Length: {len(body)}"]
    answer = daemon.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""), timeout=60)
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *others = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in others), rest


@pytest.mark.parametrize(
    ("status", "kind", "method", "path", "headers", "body"),
    [
        (400, "bad-parameter", "GET", "/collections/arcticdem-32m/plan?x=1", [], None),
        (403, "cross-site-refused", "POST", "{plan}", [*JSON, "Origin: http://evil.example"], GEOBOX),
        (404, "not-found", "GET", "/nowhere", [], None),
        (404, "unknown-collection", "GET", "/collections/nope", [], None),
        (405, "method-not-allowed", "PUT", "/collections", [], b""),
        (405, "method-not-allowed", "OPTIONS", "/collections", [], None),
        (405, "method-not-allowed", "TRACE", "{coverage}", [], None),
        (400, "bad-request", "BREW", "{coverage}", [], None),
        (406, "not-acceptable", "GET", "{coverage}?" + BOX, ["Accept: text/html"], None),
        (413, "too-large", "POST", "{plan}", [*JSON, "Content-Length: 99999999999"], None),
        (413, "too-large", "GET", "{coverage}?bbox=-180,60,180,90", [], None),
        (415, "unsupported-media-type", "POST", "{plan}", ["Content-Type: text/plain"], GEOBOX),
        (416, "range-not-satisfiable", "GET", "{coverage}?" + BOX, ["Range: bytes=99999999-"], None),
        (421, "host-refused", "GET", "/", ["Host: evil.example"], None),
        (422, "bad-body", "POST", "{plan}", JSON, b"{}"),
        (422, "bad-body", "POST", "{plan}", JSON, None),  # no length means no body (RFC 9112, 6.3): never 411
        (431, "headers-too-large", "GET", "/", ["X-Long: " + "x" * 40_000], None),
    ],
)
def test_a_refusal_is_a_problem_document(daemon, status, kind, method, path, headers, body):
    path = path.format(plan=daemon.path("plan"), coverage=daemon.path("coverage"))
    found, head, rest = ask(daemon, method, path, *headers, body=body)
    assert (found, head["content-type"]) == (status, "application/problem+json")
    document = json.loads(rest)
    assert (document["status"], document["kind"]) == (status, kind)
    assert document["detail"]
    assert document["title"]
    assert kind == "bad-request" or "icehouse-request-id" in head  # what is not a request has no id
    if status == 405:
        assert head["allow"].startswith("head, get")


def test_a_refusal_of_head_has_no_body(daemon):
    status, head, rest = ask(daemon, "HEAD", "/collections/nope")
    assert (status, rest) == (404, b"")
    assert head["content-type"] == "application/problem+json"
    assert int(head["content-length"]) > 100


def test_an_address_without_end(daemon):
    status, head, rest = ask(daemon, "GET", "/" + "x" * 200_000)
    assert status in {414, 431}
    assert head["content-type"] == "application/problem+json"
    assert json.loads(rest)["status"] == status


NAMES = (
    "Range", "If-None-Match", "If-Range", "If-Modified-Since", "Accept", "Accept-Encoding", "Cache-Control",
    "Prefer", "Expect", "Content-Type", "Authorization", "Cookie", "Traceparent", "Icehouse-Request-Id",
    "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "Upgrade", "TE", "Sec-Fetch-Site",
)  # fmt: skip
ODD = (
    "", " ", "*", "*/*", '"', '""', 'W/"x"', '"x", "y', "bytes=0-0", "bytes=-1", "bytes=0-0,5-6",
    "bytes=" + "9" * 30, "respond-async", "wait=0", "wait=-1", "wait=nan", "wait=1e400",
    "respond-async, wait=1", "no-cache", "max-age=x", "only-if-cached", "image/tiff;q=nan", "image/*;q=1e9",
    ";;;", ",,,",
    "application/json; charset=\x85", "\xe9" * 50, "gzip;q=0", "Bearer", "Basic Og==",
    "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "Sun, 22 Nov 2026 16:00:00 GMT",
)  # fmt: skip
VALUES = st.sampled_from(ODD) | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(headers=st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=4), plan=st.booleans())
@example(headers={"Prefer": "wait=" + "9" * 400}, plan=False)
@example(headers={"If-None-Match": "," * 5000}, plan=False)
@example(headers={"Expect": "100-continue"}, plan=True)
def test_headers_of_any_kind(daemon, headers, plan):
    lines = [f"{name}: {value}" for name, value in headers.items()]
    path = daemon.path("plan" if plan else "coverage")
    status, head, rest = ask(daemon, "GET", f"{path}?{BOX}", *lines)
    # 504: only-if-cached, where the chunk is not.
    assert status < 500 or (status == 504 and json.loads(rest)["kind"] == "not-cached")
    if status >= 400 and "content-type" in head:
        assert head["content-type"].startswith(("application/problem+json", "text/plain"))
    assert daemon.alive
