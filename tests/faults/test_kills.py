"""A cache at work is killed at chosen moments and at any: what it acknowledged is there, whole and right.

Loads, refreshes, drops, evictions and collections go on at once when the end comes. A new process opens the
folder and holds every chunk against what the dead one had said.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import CHILD_PATH
from support.cache import BOTH, SPECS, make_ledgers, open_cache, whole
from support.workload import hear, write_versions

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
LIVES = 150 if LONG else 5
SEED = int(os.environ.get("ICEHOUSE_TEST_SEED", "7"))
SECONDS = 60
MOMENTS = [  # kind, the calls of which one is struck, since when calls count
    ("commit", (1, 12), "ready"),
    ("session", (1, 30), "ready"),
    ("set", (1, 60), "ready"),
    ("delete", (1, 12), "ready"),
    ("expire", (1, 5), "ready"),
    ("collect", (1, 5), "ready"),
    ("unlink", (1, 30), "ready"),
    ("sqlite", (1, 20), "ready"),
    ("get", (1, 40), "ready"),
    ("list", (1, 3), "start"),
    ("open", (1, 6), "start"),
    ("sqlite", (1, 8), "start"),
]
"""The moments of a first start, on an empty folder."""
FIRST = [
    ("commit", (1, 2), "start"),
    ("rename", (1, 2), "start"),
    ("open", (1, 6), "start"),
    ("mkdir", (1, 4), "start"),
]


def live(folder, seed, versions, moment):
    """Let a workload live until it is killed, or done; return what it said and whether it was killed."""
    words = [sys.executable, "-m", "support.workload", str(folder), str(seed), versions]
    process = subprocess.Popen(
        [*words, *(moment or ())],
        env=os.environ | CHILD_PATH,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if moment is None:
            first = process.stdout.readline()
            time.sleep(random.Random(seed).uniform(0, 0.7))  # the moment is meant to be any
            process.kill()
            said, wrong = process.communicate(timeout=SECONDS)
            said = first + said
        else:
            said, wrong = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in {0, -9}, wrong[-4000:]
    lines = [line for line in said.splitlines(keepends=True) if line.endswith("\n")]
    return lines, process.returncode == -9


async def look(folder, ledgers, pool, *, sweep):
    """Open the folder as the next process does, and check everything."""
    async with open_cache(folder, ledgers, pool=pool) as cache:
        await cache.settle({})
        if sweep:
            await cache.store.maintenance.run_once()
            for name in SPECS:
                await cache.collect(name, 0)
                collection = cache.collections[name]
                needed = (await collection.head.repository.chunk_storage_stats_async()).native_bytes
                assert sum(path.stat().st_size for path in (collection.folder / "chunks").glob("*")) == needed
            left = [
                path.name for path in folder.rglob("*") if "#" in path.name or path.name.endswith(".creating")
            ]
            assert not left
            await cache.settle({})
        for name in SPECS:
            await cache.load(name, whole(name), BOTH)
        await cache.settle({})


def moment_of(chance, number, moments):
    if number % 4 == 3:
        return None
    kind, (first, last), since = moments[number % len(moments)]
    when = chance.choice(["before", "in", "after"])
    return f"{kind}:{chance.randint(first, last)}:{when}", since


@pytest.mark.slow
@pytest.mark.timeout(3600 if LONG else 300)
def test_repeatedly_killed_cache_keeps_what_it_acknowledged(tmp_path, record_property):
    chance, ledgers, kills = random.Random(SEED), make_ledgers(), 0
    folder = tmp_path / "0"
    with ThreadPoolExecutor(2) as pool:
        for number in range(LIVES):
            fresh = number % 10 == 0
            if fresh:  # a folder of its own now and then: its first start is killed, too
                folder, ledgers = tmp_path / str(number), make_ledgers()
            moment = moment_of(chance, number // 10 if fresh else number, FIRST if fresh else MOMENTS)
            lines, killed = live(folder, number + SEED, write_versions(ledgers), moment)
            kills += killed
            for line in lines:
                hear(ledgers, line)
            try:
                asyncio.run(look(folder, ledgers, pool, sweep=number % 2 == 0))
            except BaseException as error:
                error.add_note(f"life {number} of seed {SEED}, killed at {moment}")
                raise
    record_property("kills", kills)
    assert kills >= LIVES // 2
