"""Every way a source can fail ends, within a deadline, in success or in the error of the right name."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from icehouse_server.collections.loader import read_collections
from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.demo.faults import (
    Cut,
    Drip,
    Drop,
    Fault,
    Garble,
    Page,
    Redirect,
    Replace,
    Stall,
    Status,
)
from icehouse_server.demo.object_builder import Variant
from icehouse_server.sources import create_source
from support import source_rig as rig

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

COG, ITEM = "*_dem.tif", "*/items/*"
PLACE = (-750_000, 2_650_000)
TILE = "67_33_32m_v4.1"


@pytest.fixture
def spec():
    return read_collections(None)["arcticdem-32m"]


KEY = "arcticdem/mosaics/v4.1/32m/67_33/67_33_32m_v4.1_dem.tif"


@pytest.fixture
def context(fresh_standins):
    """Little patience; so the files must be there before the clock runs."""
    fresh_standins.prepare([KEY])
    with rig.source_context(fresh_standins, connect_timeout=2.5, read_timeout=2.5) as made:
        yield made


@pytest.fixture
async def source(spec, context):
    """For tests that read more than once from the same one."""
    made = create_source(spec, context)
    yield made
    await made.close()


@pytest.fixture
def request_(spec):
    return rig.request_for(spec, rig.window_around(spec, *PLACE, 200, 200), "dem")


def lie_about(standins, variant):
    """Put a file that lies in the place of the true one, built already."""
    standins.lies({KEY: variant})
    standins.prepare([KEY])


async def outcome(spec, context, request_, source=None):
    """The error of one read, or None after checking the pixels; always within a deadline."""
    own = source is None
    source = source or create_source(spec, context)
    try:
        async with asyncio.timeout(60):
            block = await source.read(request_)
    except SourceError as error:
        return error
    finally:
        if own:
            await source.close()
    values, valid = rig.truth_of(spec, "dem", request_.window)
    np.testing.assert_array_equal(block.bands["dem"].valid, valid)
    np.testing.assert_array_equal(block.bands["dem"].values[valid], values[valid])
    return None


def named(error, kind):
    assert type(error) is kind, repr(error)
    assert error.detail
    assert "\n" not in error.detail
    return True


WHERE = [pytest.param(0, id="header"), pytest.param(1, id="data")]


@pytest.mark.parametrize("offset", WHERE)
@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Status(status=401), SourceRefusedError),
        (Status(status=403), SourceRefusedError),
        (Status(status=404), SourceRefusedError),
        (Status(status=429, retry_after="3"), SourceUnavailableError),
        (Status(status=500), SourceUnavailableError),
        (Status(status=502, body="html"), SourceUnavailableError),
        (Status(status=503), SourceUnavailableError),
        (Drop(), SourceUnavailableError),
        (Cut(), SourceUnavailableError),
        (Page(), SourceRefusedError),
        (Stall(seconds=8), SourceTimeoutError),
        (Stall(seconds=8, where="body"), SourceTimeoutError),
        (Drip(interval=1.0), SourceTimeoutError),
        (Redirect(location="http://127.0.0.1:9/elsewhere"), SourceRefusedError),
    ],
    ids=lambda value: repr(value)[:40] if not isinstance(value, type) else value.__name__,
)
async def test_the_object_store_fails(spec, context, request_, source, fresh_standins, offset, action, kind):
    """And the next try, once it is well again, gives the pixels: nothing of the failure is kept."""
    fresh_standins.faults([Fault(action=action, path=COG, min_offset=offset, times=None)])
    error = await outcome(spec, context, request_, source)
    assert named(error, kind)
    assert error.item == TILE
    fresh_standins.reset()
    assert await outcome(spec, context, request_, source) is None


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Status(status=401, body="json"), SourceRefusedError),
        (Status(status=403, body="json"), SourceRefusedError),
        (Status(status=429, body="json"), SourceUnavailableError),
        (Status(status=502, body="html"), SourceUnavailableError),
        (Status(status=503, body="json"), SourceUnavailableError),
        (Drop(), SourceUnavailableError),
        (Cut(), SourceUnavailableError),
        (Page(), SourceCorruptError),
        (Stall(seconds=8), SourceTimeoutError),
        (Stall(seconds=8, where="body"), SourceTimeoutError),
        (Drip(interval=0.5), SourceTimeoutError),
        (Redirect(location="http://127.0.0.1:9/elsewhere"), SourceRefusedError),
        (Garble(), SourceCorruptError),
    ],
    ids=lambda value: repr(value)[:40] if not isinstance(value, type) else value.__name__,
)
async def test_the_api_fails(spec, context, request_, source, fresh_standins, action, kind):
    fresh_standins.faults([Fault(action=action, path=ITEM, times=None)])
    assert named(await outcome(spec, context, request_, source), kind)
    fresh_standins.reset()
    assert await outcome(spec, context, request_, source) is None


@pytest.mark.parametrize(
    "action", [Status(status=429, retry_after="1"), Status(status=503), Drop()], ids=["429", "503", "drop"]
)
@pytest.mark.parametrize("path", [ITEM, "*/search"])
async def test_the_api_fails_once(spec, context, request_, fresh_standins, action, path):
    """Metadata are asked for again at once: pystac-client itself would not, for a search."""
    if path != ITEM:
        spec = rig.with_source(spec, tiling=None)
    fresh_standins.faults([Fault(action=action, path=path)])
    assert await outcome(spec, context, request_) is None


async def test_a_long_retry_after_goes_up(spec, context, request_, fresh_standins):
    """This layer does not sleep for a minute: the layer above knows what to do with the number."""
    fresh_standins.faults(
        [Fault(action=Status(status=503, body="json", retry_after="61"), path=ITEM, times=None)]
    )
    start = time.monotonic()
    error = await outcome(spec, context, request_)
    assert named(error, SourceUnavailableError)
    assert error.retry_after == pytest.approx(61)
    assert time.monotonic() - start < 30


async def test_404_of_everything_is_not_void(spec, context, request_, fresh_standins):
    """An item is void only while its collection is there."""
    fresh_standins.faults([Fault(action=Status(status=404, body="json"), path="/api/*", times=None)])
    assert named(await outcome(spec, context, request_), SourceUnavailableError)
    fresh_standins.reset()
    assert await outcome(spec, context, request_) is None


async def test_damaged_blocks(spec, context, request_, fresh_standins):
    """Right lengths, wrong bytes: async-tiff's decoder panics."""
    fresh_standins.faults([Fault(action=Garble(), path=COG, min_offset=1, times=None)])
    error = await outcome(spec, context, request_)
    assert named(error, SourceCorruptError)
    assert error.item == TILE


async def test_damaged_header(spec, context, request_, fresh_standins):
    fresh_standins.faults([Fault(action=Garble(), path=COG, times=1)])
    error = await outcome(spec, context, request_)
    assert error is None or named(error, SourceCorruptError)


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (Variant(epsg=3031), "CRS"),
        (Variant(shift=0.4), "its document says proj:transform"),
        (Variant(shift=0.01), "its document says proj:transform"),
        (Variant(shift=1.0), "its document says proj:transform"),
        (Variant(pixel=16.0), "its document says proj:transform"),
        (Variant(dtype="float64"), "data type is float64"),
        (Variant(dtype="int16"), "data type is int16"),
        (Variant(truncate=0.4), "shorter than its header says"),
        (Variant(truncate=0.0001), ""),
    ],
    ids=repr,
)
async def test_files_that_lie(spec, context, request_, fresh_standins, lie, says):
    lie_about(fresh_standins, lie)
    error = await outcome(spec, context, request_)
    assert named(error, SourceCorruptError)
    assert says in error.detail
    assert error.item == TILE


async def test_a_file_without_nodata_has_the_bands(spec, context, request_, fresh_standins):
    lie_about(fresh_standins, Variant(no_nodata=True))
    assert await outcome(spec, context, request_) is None


async def test_a_file_that_changes_under_a_remembered_header(spec, context, request_, source, fresh_standins):
    """The next try, which the layer above makes, reads the new file; old and new are never mixed."""
    assert await outcome(spec, context, request_, source) is None
    lie_about(fresh_standins, Variant(add=1.0))
    source.files.shared.max_age = -1  # as some seconds later
    error = await outcome(spec, context, request_, source)
    assert named(error, SourceUnavailableError)
    assert "changed" in error.detail or "412" in error.detail
    block = await source.read(request_)
    values, valid = rig.truth_of(spec, "dem", request_.window)
    np.testing.assert_array_equal(block.bands["dem"].values[valid], values[valid] + 1)


async def test_a_file_that_changes_between_two_ranges(spec, context, request_, fresh_standins):
    lie_about(fresh_standins, Variant(add=1.0))
    fresh_standins.reset()
    fresh_standins.faults([Fault(action=Replace(variant=Variant(add=1.0)), path=COG, min_offset=1, times=1)])
    assert named(await outcome(spec, context, request_), SourceUnavailableError)


async def test_one_bad_item_harms_only_who_needs_it(spec, context, fresh_standins):
    lie_about(fresh_standins, Variant(epsg=3031))
    fresh_standins.prepare([fresh_standins.key("32m", "67_34")])
    other = rig.request_for(spec, rig.window_around(spec, -650_000, 2_650_000, 300, 300), "dem")
    assert await outcome(spec, context, other) is None


async def test_counters_tell_errors_by_kind(spec, context, request_, fresh_standins):
    fresh_standins.faults([Fault(action=Status(status=503), path=COG, times=1)])
    await outcome(spec, context, request_)
    counted = [host.errors for host in context.hosts.traffic.snapshot().values() if host.errors]
    assert counted == [{"source-unavailable": 1}]
