"""After thousands of requests, good, bad and broken off, the daemon holds what it held before."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

REQUESTS = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 480
SLACK = 2
"""Files, threads and tasks that may be added late: of hundreds of requests that leak, far more would stay."""
GROWTH = 64 * 1024**2
"""Memory that a process may take on top, once warm: allocators keep what they had at their peak."""
FRESH = itertools.count()
COVERAGE = "/collections/arcticdem-32m/coverage"


def small(server, geobox):
    """A region that fits into the sockets' buffers."""
    left, bottom, right, top = geobox[:64, :64].boundingbox.bbox
    url = f"{server.url}{COVERAGE}.tif"
    query = {"bbox": f"{left},{bottom},{right},{top}", "bbox-crs": "EPSG:3413"}
    assert httpx.get(url, params=query, timeout=60).status_code == 200


def wrong(server, _):
    """A parameter that can't be used."""
    assert httpx.get(f"{server.url}{COVERAGE}.tif", params={"bbox": "1,2"}).status_code == 400


def unknown(server, _):
    """A collection that is not there."""
    assert httpx.get(f"{server.url}/collections/none/coverage.tif").status_code == 404


def broken_off(server, geobox):
    """A large answer whose reader resets the connection after its first bytes."""
    address = urlsplit(server.url)
    left, bottom, right, top = geobox.boundingbox.bbox
    path = f"{COVERAGE}.zarr.zip?bbox={left},{bottom},{right},{top}&bbox-crs=EPSG:3413"
    with socket.create_connection((address.hostname, address.port), timeout=60) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert reader.recv(1000).startswith(b"HTTP/1.1 200")
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def gone(server, _):
    """A request of which half arrives."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as writer:
        writer.sendall(
            f"POST {COVERAGE} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 99\r\n\r\n{{".encode()
        )
        with suppress(OSError):
            writer.shutdown(socket.SHUT_WR)


def document(server, _):
    """A page, a document, a plan: what reads no pixel."""
    for path in ("/", "/collections", "/collections/arcticdem-32m", "/healthz", "/readyz"):
        assert httpx.get(f"{server.url}{path}", timeout=60).status_code == 200


def sea(server, _):
    """A region that was never asked for: a miss, void, so that it costs the stand-ins nothing."""
    place = next(FRESH)
    x, y = -3_900_000 + 8192 * (place % 40), 3_900_000 - 8192 * (place // 40 % 20)
    query = {"x": x, "y": y, "crs": "EPSG:3413"}
    answer = httpx.get(f"{server.url}/collections/arcticdem-32m/point", params=query, timeout=60)
    assert answer.status_code == 200, answer.text


def tile(server, _):
    """Pictures of what is there, and of nothing but hatch."""
    for place in ("11/1881/533", "3/7/1"):
        url = f"{server.url}/collections/arcticdem-32m/xyz/{place}.png"
        assert httpx.get(url, timeout=60).status_code == 200


def listens(server, _):
    """A reader that watches until it has seen something."""
    address = urlsplit(server.url)
    for path in ("/status/events", "/collections/arcticdem-32m/inventory/events?cell=64"):
        with socket.create_connection((address.hostname, address.port), timeout=60) as reader:
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            assert reader.recv(1000).startswith(b"HTTP/1.1 200")
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def leaves(server, _):
    """A miss whose client goes before there is an answer."""
    address, place = urlsplit(server.url), next(FRESH)
    x, y = -3_900_000 + 8192 * (place % 40), 3_900_000 - 8192 * (place // 40 % 20)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        path = f"/collections/arcticdem-32m/point?x={x}&y={y}&crs=EPSG:3413"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


KINDS = (small, wrong, sea, unknown, leaves, tile, gone, document, small, wrong, listens, broken_off)


def ask_many(server, geobox, count):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(KINDS[n % len(KINDS)], server, geobox) for n in range(count)]:
            done.result(120)


def held(server):
    """What the daemon holds now: files, threads, tasks, and what is held for requests."""
    process, figures = psutil.Process(server.pid), server.metrics()
    leases = sum(value for name, value in figures.items() if name.startswith("icehouse_leases{"))
    names = ("answer_bytes", "answers_waiting", "flights", "blocks_queued", "blocks_running")
    books = (leases, *(figures[f"icehouse_{name}"] for name in names))
    return process.num_fds(), process.num_threads(), figures["icehouse_tasks"], books


NOTHING = (0,) * 6


def settled(server, most=None):
    """What it holds when it has come to rest, or after half a minute."""
    end = time.monotonic() + 30
    while True:
        found = held(server)
        calm = most is None or all(now <= bound for now, bound in zip(found[:3], most, strict=True))
        if (found[3] == NOTHING and calm) or time.monotonic() > end:
            return found
        threading.Event().wait(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600 if REQUESTS < 10_000 else 7200)
def test_what_the_daemon_holds_returns_to_what_it_was(daemon, native):
    """Files, threads, tasks, leases, flights, places of the queue, memory of answers and of the process."""
    geobox = native("32m", -790_000, 2_690_000, (1600, 1600))
    server = daemon()
    server.client().load(geobox)
    ask_many(server, geobox, 120)  # pools of threads, connections to the sources and caches fill once
    before, memory = settled(server), psutil.Process(server.pid).memory_info().rss
    assert before[3] == NOTHING
    ask_many(server, geobox, REQUESTS)
    most = [figure + SLACK for figure in before[:3]]
    after = settled(server, most)
    assert after[3] == NOTHING
    assert [now <= bound for now, bound in zip(after[:3], most, strict=True)] == [True] * 3, (before, after)
    assert psutil.Process(server.pid).memory_info().rss - memory < GROWTH
