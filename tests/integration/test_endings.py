"""How a daemon ends: killed at any moment, or stopped; and what the next one finds."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import icechunk
import numpy as np
import pytest
import zarr

import icehouse
from icehouse_server.demo.faults import Fault, Stall
from icehouse_server.testing.waiting import until

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
KILLS = 20 if LONG else 4
ROUNDS = 5 if LONG else 1
SEED = int(os.environ.get("ICEHOUSE_TEST_SEED", "20"))
LOADS = 5
"""Chunks asked for in each life, three at a time."""
SHUTDOWN_SECONDS = 3


@dataclass
class Round:
    """Loads of one daemon's life, and which of them returned."""

    client: icehouse.Client
    acknowledged: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def load(self, window):
        try:
            values = self.client.load(window, timeout=60).dem.values
        except icehouse.IcehouseError as error:
            self.errors.append(error)
        else:
            with self.news:
                self.acknowledged.append((window, values))
                self.news.notify_all()

    def wait_for(self, count):
        with self.news:
            assert self.news.wait_for(lambda: len(self.acknowledged) >= count, 60), self.errors


def live_until_killed(server, windows, chance):
    """Load windows, kill the daemon at some moment on the way, and return what it had acknowledged."""
    life = Round(server.client())
    with ThreadPoolExecutor(3) as pool:
        for window in windows:
            pool.submit(life.load, window)
        life.wait_for(chance.randrange(len(windows)))
        time.sleep(chance.uniform(0, 0.03))  # the moment is meant to be any
        server.kill()
    assert len(life.acknowledged) + len(life.errors) == len(windows)
    assert {type(error) for error in life.errors} <= {icehouse.ConnectionFailed, icehouse.ProtocolError}
    return life.acknowledged


def stored_chunks(cache):
    """Every chunk that the repository lists, read through zarr: (row, column) -> pixels."""
    icechunk.set_logs_filter("error")
    storage = icechunk.local_filesystem_storage(str(cache / "collections" / "arcticdem-32m"))
    session = icechunk.Repository.open(storage).readonly_session("main")
    array = zarr.open_group(session.store, mode="r")["dem"]

    async def positions():
        return [tuple(position) async for position in session.chunk_coordinates("/dem", batch_size=1000)]

    return {place: array.get_block_selection(place) for place in zarr.core.sync.sync(positions())}


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 600)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_sigkill_at_any_moment_loses_no_acknowledged_chunk(
    daemon, fresh_standins, chunk_window, native, truth, tmp_path, number, record_property
):
    chance = random.Random(SEED + number)
    places = [(row, column) for row in range(-6, 5) for column in range(-5, 5)]
    windows = [chunk_window(*place) for place in chance.sample(places, KILLS * LOADS)]
    cache, kept, cut = tmp_path / "cache", [], 0
    for batch in itertools.batched(windows, LOADS, strict=True):
        server = daemon(cache)
        fresh_standins.reset()
        for window, values in kept:
            np.testing.assert_array_equal(server.client().load(window).dem.values, values)
        assert fresh_standins.counters().requests == 0
        fresh_standins.shape(latency=0.02)
        acknowledged = live_until_killed(server, batch, chance)
        for window, values in acknowledged:
            np.testing.assert_array_equal(values, truth("32m", window))
        kept += acknowledged
        cut += len(batch) - len(acknowledged)
    record_property("kills", KILLS)
    assert len(kept) >= KILLS
    assert cut >= KILLS
    check_repository(stored_chunks(cache), kept, native, truth)


def check_repository(chunks, kept, native, truth):
    """Every chunk is whole and right, and those that were acknowledged are there."""
    assert len(chunks) >= len(kept)
    for (row, column), values in chunks.items():
        window = native("32m", -4_000_096 + column * 256 * 32, 4_100_096 - row * 256 * 32, values.shape)
        np.testing.assert_array_equal(values, truth("32m", window))
    for window, _ in kept:
        row, column = (4_100_096 - window.affine.f) / 256 / 32, (window.affine.c + 4_000_096) / 256 / 32
        assert (row, column) in chunks


def wait_until_fetching(server):
    """Wait until a block is under way."""
    until(lambda: server.ready()["downloads"]["running"])


def test_sigterm_ends_a_stuck_load_in_time_and_keeps_commits(daemon, fresh_standins, chunk_window):
    server = daemon(shutdown_timeout=SHUTDOWN_SECONDS)
    committed = server.client().load(chunk_window(0, 0))
    fresh_standins.faults([Fault(action=Stall(seconds=600), path="*_dem.tif", times=None)])
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(server.client().load, chunk_window(2, 0), timeout=150)
        wait_until_fetching(server)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < SHUTDOWN_SECONDS + 40  # closing, on a busy machine
        error = load.exception(timeout=60)  # it was asked to retry, and found no daemon
    assert isinstance(error, (icehouse.ConnectionFailed, icehouse.ProtocolError, icehouse.Busy)), repr(error)
    said = server.log.read_text()
    assert '"status": 503' in said
    assert "Traceback" not in said
    fresh_standins.reset()
    again = daemon(server.cache).client().load(chunk_window(0, 0))
    np.testing.assert_array_equal(again.dem.values, committed.dem.values)
    assert fresh_standins.counters().requests == 0


def test_sigterm_lets_a_load_that_is_under_way_finish(daemon, fresh_standins, chunk_window, truth):
    server = daemon(shutdown_timeout=30)
    fresh_standins.faults([Fault(action=Stall(seconds=1), path="*_dem.tif", min_offset=1, times=None)])
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(server.client().load, chunk_window(1, 1))
        wait_until_fetching(server)
        server.signal(signal.SIGTERM)
        found = load.result(60)
    assert server.wait() == 0
    np.testing.assert_array_equal(found.dem.values, truth("32m", chunk_window(1, 1)))


def test_second_sigint_ends_the_daemon_at_once_and_keeps_commits(daemon, fresh_standins, chunk_window):
    server = daemon(shutdown_timeout=120)
    committed = server.client().load(chunk_window(0, 0))
    fresh_standins.faults([Fault(action=Stall(seconds=120), path="*_dem.tif", times=None)])
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(server.client().load, chunk_window(2, 0), timeout=110)
        wait_until_fetching(server)
        server.signal(signal.SIGINT)
        until(lambda: '"stopping"' in server.log.read_text())
        assert server.process.poll() is None, "the first one waits for the load"
        server.signal(signal.SIGINT)
        server.wait(30)
        assert isinstance(load.exception(timeout=30), icehouse.IcehouseError)
    fresh_standins.reset()
    again = daemon(server.cache).client().load(chunk_window(0, 0))
    np.testing.assert_array_equal(again.dem.values, committed.dem.values)
    assert fresh_standins.counters().requests == 0


def test_a_daemon_that_is_held_up_goes_on_with_what_was_asked(daemon, fresh_standins, chunk_window, truth):
    server = daemon()
    window = chunk_window(0, 0, 2, 2)
    fresh_standins.shape(latency=0.2)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(server.client().load, window, timeout=60)
        wait_until_fetching(server)
        server.signal(signal.SIGSTOP)
        time.sleep(3)
        server.signal(signal.SIGCONT)
        np.testing.assert_array_equal(load.result(90).dem.values, truth("32m", window))


@pytest.mark.parametrize("_", range(5 if LONG else 1))
def test_of_two_daemons_that_race_for_a_folder_one_gets_it(daemon, tmp_path, chunk_window, _):
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(2) as pool:  # a daemon ends with the thread that has started it
        both = list(pool.map(lambda _: daemon(cache, ready=None), range(2)))
        (winner,) = (server for server in both if server.line)
        (loser,) = (server for server in both if not server.line)
        assert loser.wait() == 1
        assert f"owns the cache folder {cache}" in loser.log.read_text()
        winner.client().load(chunk_window(0, 0))
        assert winner.stop() == 0


def test_folder_refuses_a_second_daemon_and_is_free_after_a_kill(daemon, chunk_window):
    first = daemon()
    first.client().load(chunk_window(0, 0))
    second = daemon(first.cache, ready=False)
    assert second.wait() == 1
    said = second.log.read_text()
    assert f"pid {first.pid}" in said
    assert str(first.cache) in said
    assert f"kill {first.pid}" in said
    assert "--cache-dir" in said
    assert "Traceback" not in said
    assert first.ready()["ready"]
    first.kill()
    third = daemon(first.cache)
    assert third.ready()["collections"]["arcticdem-32m"]["chunks"] > 0
