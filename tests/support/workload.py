"""A cache at work in a process of its own, which says what it does, so that it can be killed and checked.

``python -m support.workload FOLDER SEED VERSIONS [MOMENT [start]]`` opens a cache, does this
and that to it, much of it at once, and prints a line of JSON before what takes away and after what is
acknowledged. MOMENT is one of ``testing.killed``; with ``start``, calls count from the opening on.
"""

import asyncio
import json
import logging
import random
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import icechunk
import structlog

from icehouse_server.core.errors import IcehouseError
from icehouse_server.core.grid import ChunkKey, Window
from support.cache import BOTH, SPECS, Cache, make_ledgers, open_cache
from support.changing import Place
from support.faulty import Calls
from support.killed import Moment
from support.ledger import Ledger, stored_versions

_ACTS = 60
_SPREAD = 0.6
"""Seconds over which the acts begin."""


def say(what: str, *details: object) -> None:
    """Print a line at once: what follows may be the end."""
    print(json.dumps([what, *details]), flush=True)  # noqa: T201 - what it says is what it is for


class SpokenLedger(Ledger):
    """A ledger that says aloud what it records."""

    def note(self, key: ChunkKey, version: int, *, stays: bool) -> None:
        """Say what was acknowledged."""
        super().note(key, version, stays=stays)
        say("reported", key.collection, key.path, self.floor[key], stays)

    def may_go(self, keys: Collection[ChunkKey]) -> None:
        """Say what may be gone from now on."""
        super().may_go(keys)
        say("may go", [[key.collection, key.path] for key in keys])


def write_versions(ledgers: Mapping[str, Ledger]) -> str:
    """Return the versions that the sources have, as ``VERSIONS`` on the command line."""
    found = {
        name: [[*place, version] for place, version in ledger.truth.versions.items()]
        for name, ledger in ledgers.items()
    }
    return json.dumps(found)


def hear(ledgers: Mapping[str, Ledger], line: str) -> None:
    """Note in ledgers what a workload has said."""
    match json.loads(line):
        case ["reported", name, path, version, stays]:
            ledgers[name].note(ChunkKey.from_path(name, path), version, stays=stays)
        case ["may go", keys]:
            for name, path in keys:
                ledgers[name].may_go([ChunkKey.from_path(name, path)])
        case ["change", name, row, col]:
            ledgers[name].truth.change((row, col))
    for ledger in ledgers.values():  # what its source gave is not said: anything up to the newest
        for key in ledger.keys_under(ledger.truth.spec.grid.window, BOTH):
            ledger.source.served[key].update(range(ledger.now(key) + 1))


async def _work(
    folder: Path, chance: random.Random, ledgers: Mapping[str, Ledger], calls: Calls, moment: Moment | None
) -> None:
    with ThreadPoolExecutor(2) as pool:
        async with open_cache(folder, ledgers, pool=pool) as cache:
            for name, ledger in ledgers.items():
                found = await stored_versions(cache.collections[name], ledger.truth)
                ledger.stored = {key: max(versions) for key, versions in found.items()}
            if moment is not None:
                calls.reset(moment.fault())
            say("ready")
            await asyncio.gather(*(_act(cache, chance) for _ in range(_ACTS)))
    say("end")


async def _act(cache: Cache, chance: random.Random) -> None:
    name = chance.choice(["tiny", "tiny", "other"])
    rows, cols = SPECS[name].grid.shape
    row, col = chance.randrange(rows), chance.randrange(cols)
    window = Window(
        row=row, col=col, height=chance.randint(1, rows - row), width=chance.randint(1, cols - col)
    )
    ledger = cache.ledgers[name]
    keys = ledger.keys_under(window, BOTH)
    what = chance.choice(["load"] * 4 + ["refresh"] * 4 + ["drop", "collect", "evict"])
    await asyncio.sleep(chance.uniform(0, _SPREAD))
    try:
        match what:
            case "load":
                await cache.load(name, window, BOTH)
            case "refresh":
                _change(ledger, {(key.row, key.col) for key in keys})
                await cache.refresh(name, keys)
            case "drop":
                await cache.drop(name, keys)
            case "collect":
                await cache.collect(name, 0)
            case "evict":
                await cache.evict(0.9)
    except IcehouseError as error:
        say("failed", what, error.detail)


def _change(ledger: Ledger, places: Collection[Place]) -> None:
    for place in places:
        say("change", ledger.truth.spec.id, *place)
        ledger.truth.change(place)


def main() -> None:
    """Work until it is done, or until the moment comes."""
    _, folder, seed, versions, *rest = sys.argv
    icechunk.set_logs_filter("error")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    ledgers = {
        name: SpokenLedger(truth=ledger.truth, source=ledger.source)
        for name, ledger in make_ledgers().items()
    }
    for name, places in json.loads(versions).items():
        ledgers[name].truth.versions.update({(row, col): version for row, col, version in places})
    moment = Moment.read(rest[0]) if rest else None
    with Calls(Path(folder)) as calls:
        if moment is not None and rest[1:] == ["start"]:
            calls.reset(moment.fault())
            moment = None
        asyncio.run(_work(Path(folder), random.Random(int(seed)), ledgers, calls, moment))


if __name__ == "__main__":
    main()
