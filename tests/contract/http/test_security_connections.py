"""Rule 13 of reliability.md 1.1: what a connection may take of time, memory and places; HTTP that is none.

The rules of the other parts are in `test_security.py`.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time

import pytest

CONNECTIONS = 8
SECONDS = 1
LATE = 40
"""Far more than a connection gets, on a busy machine."""
PLAN = b'{"proj:code":"EPSG:3413","proj:transform":[32,0,-712000,0,-32,2650000],"proj:shape":[8,8]}'


@pytest.fixture(scope="module")
def strict(start_daemon):
    """One daemon with short deadlines, which serves few."""
    settings = {"receive_timeout": SECONDS, "send_timeout": SECONDS, "max_connections": CONNECTIONS}
    variables = {f"ICEHOUSE_{name.upper()}": str(value) for name, value in settings.items()}
    with start_daemon({**variables, "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as started:
        started.http.close()  # a kept connection would take a place
        yield started


@pytest.fixture(autouse=True)
def stays_up(strict):
    yield
    assert strict.alive
    assert until(lambda: b"200 OK" in exchange(strict, get("/healthz")))
    assert "Traceback" not in strict.log.read_text()


def until(true):
    """Whether something becomes true in time."""
    end = time.monotonic() + LATE
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def connect(daemon):
    return socket.create_connection(("127.0.0.1", daemon.port), timeout=LATE)


def read_all(connection):
    """All that comes until the daemon closes; a reset ends it, too."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            parts.append(piece)
    return b"".join(parts)


def exchange(daemon, *parts):
    """Send parts and return what comes until the daemon closes; a TimeoutError if it never does."""
    with connect(daemon) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                connection.sendall(part.replace(b"PORT", str(daemon.port).encode()))
        return read_all(connection)


def get(path, *headers, method=b"GET"):
    lines = [
        method + b" " + path.encode() + b" HTTP/1.1",
        b"Host: localhost:PORT",
        b"Connection: close",
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(*headers, path="/collections/arcticdem-32m/plan"):
    return get(path, b"Content-Type: application/json", *headers, method=b"POST")


def status_of(answer):
    """Status of the only answer, which is a problem document where it is an error."""
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status >= 400:
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == status
    return status


# Clients that are slow

POSTED = post(b"Content-Length: 1000")
CHUNKED = post(b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (b"G", b""),
        (b"GET /healthz HTTP/1.1\r\n", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\n", b"X: 1\r\n"),
        (b"GET /healthz HTTP/1.1\r\nX-Long: ", b"x"),
        (b"GET /" + b"x" * 100, b"x"),
        (POSTED, b""),
        (POSTED, b" "),
        (POSTED.replace(b"Connection: close\r\n", b""), b" "),
        (CHUNKED, b""),
        (CHUNKED, b"1\r\n \r\n"),
        (CHUNKED, b"1;"),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: 1\r\n"),
        (post(b"Content-Length: 100000000"), b" "),
    ],
    ids=lambda part: ascii(part[-24:]),
)
def test_rule_13_a_request_has_to_arrive_in_time(strict, begin, drip):
    with connect(strict) as connection:
        connection.sendall(begin.replace(b"PORT", str(strict.port).encode()))
        connection.settimeout(0.1)
        end, parts, closed = time.monotonic() + LATE, [], False
        while not closed and time.monotonic() < end:
            try:
                connection.sendall(drip)
                parts.append(connection.recv(65536))
                closed = not parts[-1]
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                closed = True
    assert closed
    answer = b"".join(parts)
    assert not answer or status_of(answer) in {408, 413}
    assert bool(answer) == bool(begin or drip)


def test_rule_13_a_request_in_pieces_is_served(strict):
    whole = post(b"Content-Length: %d" % len(PLAN)) + PLAN
    assert status_of(exchange(strict, *(whole[n : n + 40] for n in range(0, len(whole), 40)))) == 200


def test_rule_13_client_that_does_not_read_is_ended(strict):
    def held():
        answer = exchange(strict, get("/readyz"))
        return json.loads(answer.partition(b"\r\n\r\n")[2])["memory"]["answer_bytes"]

    box = "bbox=-712000,2640000,-711000,2641000&bbox-crs=EPSG:3413&width=2000&height=2000"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(LATE)
        connection.connect(("127.0.0.1", strict.port))
        request = get(f"/collections/arcticdem-32m/coverage.npy?{box}")
        connection.sendall(request.replace(b"PORT", str(strict.port).encode()))
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert held() > 0
        assert until(lambda: held() == 0)
        assert len(read_all(connection)) < 16_000_000


# Clients that are many


def test_rule_13_more_connections_than_are_served_are_told_so(strict):
    with contextlib.ExitStack() as stack:

        def is_served():
            connection = stack.enter_context(connect(strict))
            connection.sendall(
                get("/healthz").replace(b"PORT", b"%d" % strict.port).replace(b"close", b"keep-alive")
            )
            return connection.recv(12) == b"HTTP/1.1 200"

        assert until(lambda: is_served() and all(is_served() for _ in range(CONNECTIONS - 1)))
        answer = exchange(strict, get("/healthz"))
        assert status_of(answer) == 503
        assert b"retry-after: 1\r\n" in answer.lower()
        assert b"connection: close\r\n" in answer.lower()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["kind"] == "busy"
        many = [stack.enter_context(connect(strict)) for _ in range(80)]
        assert read_all(many[-1]) == b""


# Requests that are long


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /" + b"x" * 300_000, b" HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n"],
        [b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\n", *[b"X-" + b"x" * 65_000] * 5],
        [b"GET /healthz HTTP/1.1\r\nHost: localhost:PORT\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * 1000],
        [b"\r\n" * 200_000],
        [get("/healthz?" + "x" * 40_000)],
        [get("/" + "x" * 40_000)],
    ],
    ids=lambda parts: ascii(parts[-1][:16]),
)
def test_rule_13_a_head_has_a_limit(strict, parts):
    answer = exchange(strict, *parts)
    assert not answer or status_of(answer) == 431
    assert answer or parts[0].startswith(b"\r\n")


@pytest.mark.parametrize(
    "parts",
    [
        [CHUNKED, b"2;" + b"x" * 1_000_000],
        [CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-Trailer: " + b"x" * 1_000_000],
        [CHUNKED + b"2\r\n{}\r\n0\r\n", *[b"X-Trailer: xxxxxxxxxx\r\n"] * 50_000],
    ],
    ids=["extension", "trailer", "trailers"],
)
def test_rule_13_what_surrounds_a_chunked_body_has_a_limit(strict, parts):
    assert status_of(exchange(strict, *parts)) == 431


def test_rule_13_a_trailer_is_no_header(strict):
    body = b"%x\r\n%s\r\n0\r\n" % (len(PLAN), PLAN)
    trailers = b"Host: evil.example\r\nOrigin: http://evil.example\r\nAuthorization: x\r\n\r\n"
    assert status_of(exchange(strict, CHUNKED + body + trailers)) == 200


def test_rule_13_a_body_that_is_too_long_is_not_asked_for(strict):
    expecting = post(b"Content-Length: 2000000", b"Expect: 100-continue")
    with connect(strict) as connection:
        connection.sendall(expecting.replace(b"PORT", str(strict.port).encode()))
        assert connection.recv(12) == b"HTTP/1.1 413"


# Requests that are none, and two in one


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: -1"],
        [b"Content-Length: +2"],
        [b"Content-Length: 0x2"],
        [b"Content-Length: 2 2"],
        [b"Content-Length: 2, 2"],
        [b"Content-Length: 2, 3"],
        [b"Content-Length: \xb2"],
        [b"Content-Length: " + b"9" * 30],
        [b"Content-Length: 18446744073709551618"],
        [b"Content-Length:"],
        [b"Content-Length: 2", b"Content-Length: 3"],
        [b"Content-Length: 2", b"Content-Length: 2"],
        [b"Content-Length: 2", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 2"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: identity", b"Content-Length: 2"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Content-Length : 2"],
        [b" Content-Length: 2"],
        [b"X: a\r\n b: c", b"Content-Length: 2"],
        [b"X: a\x00b", b"Content-Length: 2"],
        [b"X: a\rb", b"Content-Length: 2"],
        [b"X\x00: a"],
        [b"X Y: a"],
        [b"\xc3\xa9: a"],
        [b": a"],
        [b"no-colon"],
    ],
    ids=lambda headers: ascii(b"|".join(headers))[:50],
)
def test_rule_13_headers_that_two_programs_may_read_in_two_ways(strict, headers):
    smuggled = b"{}" + get("/metrics")
    answer = exchange(strict, post(*headers).replace(b"Connection: close\r\n", b"") + smuggled)
    assert status_of(answer) in {400, 413}


@pytest.mark.parametrize(
    "chunks",
    [
        b"-1\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"2\r\n{}x\r\n0\r\n\r\n",
        b"2{}\r\n0\r\n\r\n",
        b"\r\n{}\r\n0\r\n\r\n",
        b"zz\r\n",
    ],
    ids=ascii,
)
def test_rule_13_chunks_that_are_none(strict, chunks):
    assert status_of(exchange(strict, CHUNKED + chunks)) == 400


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /healthz HTTP/9.9",
        b"GET /healthz HTTX/1.1",
        b"GET healthz HTTP/1.1",
        b"GET /health\xc3\xa9 HTTP/1.1",
        b"GET /health\x00z HTTP/1.1",
        b"get /healthz HTTP/1.1",
        b"BREW /healthz HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"{}",
    ],
    ids=ascii,
)
def test_rule_13_a_request_line_that_is_none(strict, request_line):
    answer = exchange(strict, request_line + b"\r\nHost: localhost:PORT\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 400


def test_rule_13_what_follows_a_request_is_not_its_answer(strict):
    first = get("/healthz").replace(b"Connection: close\r\n", b"")
    answer = exchange(strict, first + b"\x00garbage\r\n\r\n")
    assert not answer or answer.startswith(b"HTTP/1.1 200")
    two = exchange(strict, first + get("/nope"))
    assert re.findall(rb"HTTP/1.1 (\d+)", two) == [b"200", b"404"]


@pytest.mark.parametrize(
    "headers",
    [
        [
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: eA==",
        ],
        [
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        ],
    ],
    ids=["websocket", "h2c"],
)
def test_rule_13_no_other_protocol_is_spoken(strict, headers):
    asked = [header for header in headers if header]
    assert status_of(exchange(strict, get("/healthz", *asked))) == 200
    body = post(*asked, b"Content-Length: %d" % len(PLAN)) + PLAN
    assert status_of(exchange(strict, body)) in {200, 400, 408, 422}


def test_rule_10_an_absolute_target_names_no_host(strict):
    head = b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\n\r\n"
    answer = exchange(strict, head)
    assert b"evil.example" not in answer
    assert status_of(exchange(strict, head.replace(b"localhost:PORT", b"evil.example"))) in {400, 421}
    assert status_of(exchange(strict, get("evil.example:80", method=b"CONNECT"))) in {400, 401, 404, 405, 421}
