"""After hundreds of requests, good, bad and broken off, the daemon holds what it held before."""

from __future__ import annotations

import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import psutil

REQUESTS = 300
SLACK = 2
"""Files and threads that a library may open late: of 300 requests that leak, far more would stay."""
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


KINDS = (small, wrong, broken_off, unknown, small, gone)


def ask_many(server, geobox, count):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(KINDS[n % len(KINDS)], server, geobox) for n in range(count)]:
            done.result(120)


def held(server):
    """What the daemon holds now: files, threads, leases, memory of answers."""
    process, figures = psutil.Process(server.pid), server.metrics()
    leases = sum(value for name, value in figures.items() if name.startswith("icehouse_leases"))
    return process.num_fds(), process.num_threads(), leases, figures["icehouse_answer_bytes"]


def settled(server, files=None, threads=None):
    """What it holds when it has come to rest, or after 20 seconds."""
    end = time.monotonic() + 20
    while True:
        found = held(server)
        calm = found[2:] == (0, 0) and (files is None or (found[0] <= files and found[1] <= threads))
        if calm or time.monotonic() > end:
            return found
        threading.Event().wait(0.1)


def test_files_threads_leases_and_memory_return_to_where_they_were(daemon, native):
    geobox = native("32m", -790_000, 2_690_000, (1600, 1600))
    server = daemon()
    server.client().load(geobox)
    ask_many(server, geobox, 60)  # pools of threads and connections to the sources fill once
    files, threads, leases, answers = settled(server)
    assert (leases, answers) == (0, 0)
    ask_many(server, geobox, REQUESTS)
    after = settled(server, files + SLACK, threads + SLACK)
    assert after[0] <= files + SLACK
    assert after[1] <= threads + SLACK
    assert after[2:] == (0, 0)
