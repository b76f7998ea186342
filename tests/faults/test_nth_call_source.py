"""The n-th request to a source fails, for every n that a read makes: item, search, header and data.

A read ends in the right pixels or in a named error that carries an item; the next one is right.
"""

from __future__ import annotations

import asyncio
import os
import random

import numpy as np
import pytest

from icehouse_server.collections.loader import read_collections
from icehouse_server.core.errors import SourceError
from icehouse_server.demo.faults import Cut, Drop, Fault, Garble, Page, Status
from icehouse_server.sources import create_source
from support import source_rig as rig

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = os.environ.get("ICEHOUSE_TEST_SEED", "")
SECONDS = 30
KINDS = {"item": "*/items/*", "search": "*/search", "range": "*_dem.tif"}
ACTIONS = (
    Status(status=500),
    Status(status=503),
    Status(status=429, retry_after="0"),
    Status(status=404),
    Status(status=403, body="html"),
    Drop(),
    Cut(),
    Cut(part=0.99),
    Garble(),
    Page(),
)


def faults_of(kind, number, chance):
    found = [
        Fault(action=action, path=KINDS[kind], after=number - 1, times=times)
        for action in ACTIONS
        for times in (1, None)
        # That there is no such item is an answer: the tile is void (design.md, items by arithmetic).
        if (kind, action) != ("item", Status(status=404))
    ]
    return found if LONG else chance.sample(found, 3)


@pytest.mark.timeout(3600 if LONG else 180)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_nth_request_to_a_source_fails(fresh_standins, kind):
    spec = read_collections(None)["arcticdem-32m"]
    if kind == "search":
        spec = rig.with_source(spec, tiling=None)
    # Two tiles, of which each needs a document, a header and data.
    window = rig.window_around(spec, -700_000, 2_650_000, 60, 60)
    request = rig.request_for(spec, window, "dem")
    values, valid = rig.truth_of(spec, "dem", window)
    tries = failed = 0

    async def read(source):
        try:
            async with asyncio.timeout(SECONDS):
                block = await source.read(request)
        except SourceError as error:
            return error
        np.testing.assert_array_equal(block.bands["dem"].valid, valid)
        np.testing.assert_array_equal(block.bands["dem"].values[valid], values[valid])
        return None

    async def fresh(faults):
        fresh_standins.reset()
        fresh_standins.faults(faults)
        with rig.source_context(fresh_standins, connect_timeout=2.0, read_timeout=10.0) as context:
            source = create_source(spec, context)
            try:
                error = await read(source)
                asked = sum(
                    requests
                    for (_, path), (requests, _) in fresh_standins.counters().by_path.items()
                    if KINDS[kind].strip("*") in path
                )
                fresh_standins.reset()
                source.files.shared.max_age = -1  # as some seconds later
                # The first may still join a request that was under way when the other item failed.
                assert await read(source) is None or await read(source) is None, "what failed was kept"
            finally:
                await source.close()
        return error, asked

    error, asked = await fresh([])
    assert error is None
    assert asked
    chance = random.Random(f"{SEED} {kind}")
    for number in range(1, asked + 1):
        for fault in faults_of(kind, number, chance):
            tries += 1
            try:
                error, _ = await fresh([fault])
            except BaseException as unexpected:
                unexpected.add_note(f"{kind} request {number} of {asked}: {fault}")
                raise
            failed += error is not None
            assert error is None or error.detail
    assert failed
    print(kind, "requests:", asked, "tries:", tries, "failed:", failed)  # noqa: T201 - figures, with -s
