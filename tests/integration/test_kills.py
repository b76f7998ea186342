"""A daemon that is killed at chosen moments, from its first start on; the next one finds all in order."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import icehouse

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = int(os.environ.get("ICEHOUSE_TEST_SEED", "3"))
ROUNDS = 8 if LONG else 1
"""Each has a folder of its own."""
EVERY = [
    "open:{}:in 1-2",  # the repository is made
    "commit:{}:before 1-1",
    "commit:{}:in 1-1",
    "rename:{}:before 1-3",  # it is moved to its place
    "flock:{}:after 1-1",
    "sqlite:{}:in 1-6",  # notes are opened
    "list:{}:in 1-1",  # the index is read
    "collect:{}:in 1-1",  # what the crash before has left is cleared
    "unlink:{}:after 1-3",
    "commit:{}:before 2-3",  # chunks are committed
    "commit:{}:in 2-3",
    "commit:{}:after 2-3",
    "set:{}:in 20-60",
    "sqlite:{}:before 8-20",  # notes are saved
]
QUICK = [1, 10, 12]
"""These the quick profile takes; `tests/faults/test_kills.py` has the other calls."""
LOADS = 6


def moments(chance):
    for number in range(len(EVERY)) if LONG else QUICK:
        form, _, numbers = EVERY[number].partition(" ")
        first, last = map(int, numbers.split("-"))
        yield form.format(chance.randint(first, last))


def live(server, windows):
    """Load windows at once until the daemon is dead; return those that came."""
    client = server.client()

    def load(window):
        try:
            return window, client.load(window, timeout=60).dem.values
        except icehouse.IcehouseError:
            return None

    with ThreadPoolExecutor(3) as pool:
        return [found for found in pool.map(load, windows) if found is not None]


def wait_until_tidy(cache):
    """Wait until the first run of maintenance has cleared what crashes have left."""
    end = time.monotonic() + 60
    while left := [path for path in cache.rglob("*") if "#" in path.name or path.name.endswith(".creating")]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 600)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_daemon_killed_at_any_moment_leaves_a_usable_folder(
    daemon, fresh_standins, chunk_window, truth, tmp_path, number, record_property
):
    chance = random.Random(SEED + number)
    places = [(row, column) for row in range(-6, 5) for column in range(-5, 5)]
    chance.shuffle(places)
    cache, kept, kills = tmp_path / "cache", [], 0
    for moment in moments(chance):
        server = daemon(cache, ready=None, moment=moment)
        if server.line:
            came = live(server, [chunk_window(*places.pop()) for _ in range(LOADS)])
            for window, values in came:
                np.testing.assert_array_equal(values, truth("32m", window), err_msg=moment)
            kept += came
        if server.process.poll() is None and "sqlite" not in moment:
            time.sleep(1)
        kills += server.process.poll() == -9
        if server.process.poll() is None:
            server.kill()
    server = daemon(cache)
    fresh_standins.reset()
    for window, values in kept:
        np.testing.assert_array_equal(server.client().load(window).dem.values, values)
    assert fresh_standins.counters().requests == 0, "nothing that was acknowledged is fetched again"
    wait_until_tidy(cache)
    record_property("kills", kills)
    assert kills >= (len(EVERY) if LONG else len(QUICK)) // 2
