"""No caller waits for ever: sources that hang, full queues and clients that vanish, over real sockets.

That a name server hangs is not tested: nothing here can stand for one. Names are resolved below aiohttp and
requests, under the same deadlines.
"""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from importlib import resources
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from icehouse_server.demo.faults import Drip, Drop, Fault, Stall
from icehouse_server.testing.waiting import until

TOO_LONG = 60.0
"""Seconds after which a wait of twelve counts as one for ever, on a machine that is busy otherwise."""
IMPATIENT = {
    "request_timeout": 12,
    "connect_timeout": 1,
    "read_timeout": 4,
    "block_timeout": 12,
    "fetch_attempts": 2,
    "fetch_budget": 2,
    "failure_ttl": 0,
    "block_side": 256,
}
KINDS = {"source-timeout", "source-unavailable", "deadline-exceeded"}
TILES = [("32m", "67_33"), ("10m", "67_33")]
SERVED = ("arcticdem-32m", "arcticdem-10m", "arcticdem-2m", "searched")
HANG = Stall(seconds=120)


@pytest.fixture
def searched(tmp_path):
    """A folder with a fourth collection, whose items are found by a search."""
    folder = tmp_path / "collections"
    folder.mkdir()
    text = (
        resources.files("icehouse_server.collections").joinpath("builtin", "arcticdem-32m.toml").read_text()
    )
    head, rest = text.split("[source.tiling]")
    text = (head + rest[rest.index("[[bands]]") :]).replace('id = "arcticdem-32m"', 'id = "searched"')
    (folder / "searched.toml").write_text(text)
    return folder


@pytest.fixture
def impatient(daemon, searched):
    """A daemon with little patience and four collections, and a thread's turn at it."""
    daemon.standins.prepare([daemon.standins.key(*tile) for tile in TILES])
    return daemon(collections=",".join(SERVED), collections_dir=searched, **IMPATIENT)


def ask(server, collection, geobox, **options):
    """One GET of a region as NumPy file, without a client that would try again."""
    left, bottom, right, top = geobox.boundingbox.bbox
    query = {"bbox": f"{left},{bottom},{right},{top}", "bbox-crs": "EPSG:3413"}
    url = f"{server.url}/collections/{collection}/coverage.npy"
    return httpx.get(url, params=query, **{"timeout": TOO_LONG, "trust_env": False, **options})


HELD = ("blocks_queued", "blocks_running", "flights", "answer_bytes", "answers_waiting")


def settled(server):
    """Wait until the daemon holds nothing for anybody; what it still holds otherwise."""
    end = time.monotonic() + TOO_LONG
    while True:
        figures = server.metrics()
        held = {name: value for name in HELD if (value := figures[f"icehouse_{name}"])}
        held |= {
            name: value for name, value in figures.items() if name.startswith("icehouse_leases{") and value
        }
        if not held or time.monotonic() > end:
            return held
        threading.Event().wait(0.1)


HANGS = {
    "never answers": Stall(seconds=120),
    "stalls in the middle": Stall(seconds=120, where="body"),
    "a byte a second": Drip(interval=1.0),
    "drops connections": Drop(),
}


@pytest.mark.slow
def test_three_collections_hang_and_the_fourth_does_not_notice(
    impatient, native, chunk_window, truth, fresh_standins
):
    """One hangs at its files, one at its items, one at its search alone; in every way."""
    cached = chunk_window(0, 0)
    for turn, (how, action) in enumerate(HANGS.items()):
        np.testing.assert_array_equal(load(impatient, cached), truth("32m", cached))
        paths = ("*_10m_*_dem.tif", "*-2m/items/*", "*/search")
        fresh_standins.faults([Fault(action=action, path=path, times=None) for path in paths])
        places = [
            place
            for n in range(3 * turn, 3 * turn + 3)
            for place in (
                ("arcticdem-10m", native("10m", -749_000 + 2560 * n, 2_650_000, (100, 100))),
                ("arcticdem-2m", native("2m", -749_000 + 512 * n, 2_649_000, (100, 100))),
                ("searched", chunk_window(1 + turn, n - 3 * turn)),
            )
        ]
        with ThreadPoolExecutor(len(places)) as pool:
            stuck, waited = [pool.submit(ask, impatient, *place) for place in places], 0
            for geobox in (chunk_window(-1 - turn, 0), cached, chunk_window(-1 - turn, 1), cached):
                np.testing.assert_array_equal(load(impatient, geobox), truth("32m", geobox))
                waited += sum(not waiting.done() for waiting in stuck)
            assert waited or how == "drops connections", "others were answered while these waited"
            answers = [waiting.result(TOO_LONG) for waiting in stuck]
        check_failures(answers, how)
        fresh_standins.reset()
        assert settled(impatient) == {}, how
    for collection, geobox in (places[0], places[2]):
        assert ask(impatient, collection, geobox).status_code == 200, "once it is well, it is asked again"


def check_failures(answers, how):
    for answer in answers:
        problem = answer.json()
        assert (answer.status_code in {502, 504}, problem["kind"]) == (True, "chunks-failed"), (how, problem)
        assert {chunk["kind"] for chunk in problem["chunks"]} <= KINDS, (how, problem)
        assert problem["failed"] >= 1


def load(server, geobox):
    answer = ask(server, "arcticdem-32m", geobox)
    assert answer.status_code == 200, answer.text
    return as_array(answer)


def as_array(answer):
    return np.load(io.BytesIO(answer.content)).squeeze()


@pytest.mark.slow
def test_64_clients_of_one_source_that_hangs(impatient, chunk_window, truth, fresh_standins):
    """All end by their deadline; then the source is well, and all 64 have their pixels from one fetch."""
    geobox = chunk_window(0, 0)
    fresh_standins.faults([Fault(action=HANG, path="*_dem.tif", times=None)])
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: ask(impatient, "arcticdem-32m", geobox), range(64)))
        assert {answer.status_code for answer in answers} == {504}
        assert {chunk["kind"] for answer in answers for chunk in answer.json()["chunks"]} <= KINDS
        fresh_standins.reset()
        assert settled(impatient) == {}
        before = impatient.metrics()["icehouse_chunks_fetched_total"]
        answers = list(pool.map(lambda _: ask(impatient, "arcticdem-32m", geobox), range(64)))
    expected = truth("32m", geobox)
    for answer in answers:
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(as_array(answer), expected)
    assert impatient.metrics()["icehouse_chunks_fetched_total"] - before == 1
    assert settled(impatient) == {}


def test_who_comes_back_when_he_was_told_to_gets_in(daemon, chunk_window, fresh_standins):
    fresh_standins.prepare([fresh_standins.key("32m", "67_33")])
    server = daemon(blocks_at_once=1, blocks_per_collection=1, max_queued_blocks=2, block_side=256)
    fresh_standins.shape(latency=1.0)
    # Two chunks apart: neighbours share blocks of the file, so the second would come at once.
    for column in range(-4, 2, 2):  # the pace is measured
        assert ask(server, "arcticdem-32m", chunk_window(0, column)).status_code == 200
    with ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(ask, server, "arcticdem-32m", chunk_window(2, column)) for column in range(-4, 2, 2)
        ]
        until(lambda: server.metrics()["icehouse_blocks_queued"] == 2)
        refused = ask(server, "arcticdem-32m", chunk_window(4, 0))
        assert refused.status_code == 503
        assert refused.json()["kind"] == "busy"
        seconds = int(refused.headers["retry-after"])
        assert 1 <= seconds <= 60
        assert refused.json()["retry_after"] == seconds
        threading.Event().wait(seconds)
        assert ask(server, "arcticdem-32m", chunk_window(4, 0)).status_code == 200
        wait(waiting)
    assert settled(server) == {}


# Clients that vanish


def connect(server, stack, sends, *, buffer=None):
    """A connection that has sent something. It ends by a reset, as that of a process that was killed."""
    address = urlsplit(server.url)
    connection = stack.enter_context(socket.socket())
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.settimeout(TOO_LONG)
    connection.connect((address.hostname, address.port))
    connection.sendall(sends.encode())
    return connection


def head(server, path, method="GET", more=""):
    host = urlsplit(server.url).netloc
    return f"{method} /collections/arcticdem-32m/{path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"


def coverage(geobox, suffix="npy"):
    left, bottom, right, top = geobox.boundingbox.bbox
    return f"coverage.{suffix}?bbox={left},{bottom},{right},{top}&bbox-crs=EPSG:3413"


def connections(server):
    sockets = psutil.Process(server.pid).net_connections("tcp")
    port = urlsplit(server.url).port
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in sockets)


@pytest.mark.slow
def test_clients_that_vanish_at_any_stage_leave_nothing(daemon, native, fresh_standins):
    """Queued, waiting for the source, half a request sent, and in the middle of a large answer."""
    fresh_standins.prepare([fresh_standins.key("32m", "67_33")])
    server = daemon(**{**IMPATIENT, "blocks_per_collection": 1, "request_timeout": 120})
    large = native("32m", -790_000, 2_690_000, (1600, 1600))
    server.client().load(large)
    assert settled(server) == {}
    fresh_standins.faults([Fault(action=HANG, path="*", times=None)])
    far = [native("32m", -490_000 + 8192 * n, 2_890_000, (64, 64)) for n in range(8)]
    fields = "Content-Length: 500\r\nContent-Type: application/json\r\n"
    half = head(server, "coverage", "POST", fields) + "{"
    with ExitStack() as stack:
        for geobox in far:
            connect(server, stack, head(server, coverage(geobox)))
        connect(server, stack, head(server, "point?x=-290000&y=2890000&crs=EPSG:3413"))
        until(lambda: server.metrics()["icehouse_blocks_queued"] == 8)
        figures = server.metrics()
        assert figures["icehouse_blocks_running"] == 1
        assert figures["icehouse_answer_bytes"] == 0, "who waits for a source holds no memory"
        readers = [
            connect(server, stack, head(server, coverage(large, "zarr.zip")), buffer=4096) for _ in range(4)
        ]
        for reader in readers:
            assert reader.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.metrics()["icehouse_answer_bytes"] > 0
        for _ in range(4):
            connect(server, stack, head(server, coverage(large))[:-20])
            connect(server, stack, half)
        until(lambda: connections(server) >= 9 + 4 + 8)
    until(lambda: server.metrics()["icehouse_blocks_queued"] == 0)
    until(lambda: connections(server) <= 1)  # that of the client
    assert settled(server) == {}, "the block that had begun ends by its own deadline"
    fresh_standins.reset()
    other = native("32m", -720_000, 2_620_000, (64, 64))  # of the file that is built
    assert ask(server, "arcticdem-32m", other).status_code == 200
