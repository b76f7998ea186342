"""From a geobox to pixels and back: the daemon as a process, the real client, the stand-ins as the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import icechunk
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import ODCExtensionDs  # noqa: F401 - registers .odc

if TYPE_CHECKING:
    from pathlib import Path

README = GeoBox.from_bbox((150, 65, 151, 65.5), shape=(1000, 1000), crs="EPSG:4326")
BANDS = ("dem", "mad", "count", "mindate", "maxdate", "datamask")
NODATA = -9999
PLACES = {
    "inside a tile at 32 m": ("32m", -740_000, 2_650_000),
    "where four tiles at 32 m meet, over a bare buffer": ("32m", -705_000, 2_605_000),
    "next to an ocean gap at 32 m": ("32m", -805_000, 2_705_000),
    "on the antimeridian at 32 m, Wrangel Island": ("32m", -1_453_000, 1_453_000),
    "on the antimeridian at 32 m, Chukotka, an item of the old form": ("32m", -1_755_000, 1_755_000),
    "on longitude 0 at 32 m": ("32m", 1_143_000, -1_143_000),
    "at 10 m": ("10m", -715_000, 2_655_000),
    "on the antimeridian at 10 m": ("10m", -1_453_000, 1_453_000),
    "at 2 m": ("2m", -715_000, 2_650_000),
    "on the antimeridian at 2 m, where four quarters meet": ("2m", -1_450_400, 1_450_400),
}


@pytest.mark.parametrize("place", PLACES)
def test_pixels_of_the_native_grid_equal_those_of_the_source(shared, native, truth, place):
    resolution, x, y = PLACES[place]
    geobox = native(resolution, x, y, (389, 401))
    found = shared.client(f"arcticdem-{resolution}").load(geobox)
    expected = truth(resolution, geobox)
    assert found.odc.geobox == geobox
    assert (expected != NODATA).any()
    np.testing.assert_array_equal(found.dem.values, expected)


@dataclass(kw_only=True)
class Life:
    """What happened to one cache folder: a daemon, a restart, and then no daemon."""

    cache: Path
    loads: dict[str, list[xr.Dataset]]
    """What was asked for -> the answers: cold, warm, after the restart."""
    requests: list[int]
    """Requests to the sources in each of the three rounds."""
    chunks: list[int]
    """Chunks cached at the end of the first daemon's life and at the beginning of the second's."""
    void: tuple[int, int]
    """Chunks of the ocean gap that the first daemon said are void, and needed."""


@pytest.fixture(scope="module")
def asked(native):
    """The regions of `life`: name -> geobox and bands."""
    return {
        "readme": (README, None),
        "six bands": (native("32m", -740_000, 2_650_000, (300, 320)), BANDS),
        "void": (native("32m", -842_000, 2_742_000, (200, 200)), None),  # tile 68_32 does not exist
        "coast": (native("32m", -812_000, 2_712_000, (500, 900)), ("dem", "count")),  # and here it begins
    }


@pytest.fixture(scope="module")
def life(standins, launcher, asked):
    """A daemon loads regions cold and warm, stops, starts again, loads them once more, and stops."""
    loads, requests, chunks = {name: [] for name in asked}, [], []

    def load_all(daemon):
        standins.reset()
        for name, (geobox, bands) in asked.items():
            loads[name].append(daemon.client().load(geobox, bands=bands))
        requests.append(standins.counters().requests)

    def count(daemon):
        chunks.append(daemon.ready()["collections"]["arcticdem-32m"]["chunks"])

    first = launcher()
    load_all(first)
    load_all(first)
    plan = first.client().plan(asked["void"][0]).chunks
    count(first)
    assert first.stop() == 0
    second = launcher(first.cache)
    count(second)
    load_all(second)
    assert second.stop() == 0
    return Life(
        cache=first.cache, loads=loads, requests=requests, chunks=chunks, void=(plan.void, plan.needed)
    )


@pytest.fixture(scope="module")
def repository(life):
    """The repository that the daemons of `life` left, read without them."""
    icechunk.set_logs_filter("error")  # it warns of concurrent commits; we only read
    storage = icechunk.local_filesystem_storage(str(life.cache / "collections" / "arcticdem-32m"))
    return icechunk.Repository.open(storage)


def test_the_region_of_the_readme_comes_on_the_geobox_asked_for(life):
    cold = life.loads["readme"][0]
    assert cold.odc.geobox == README
    assert list(cold.data_vars) == ["dem"]
    assert float((cold.dem != NODATA).mean()) > 0.5


def test_warm_loads_equal_cold_ones_and_ask_nobody(life):
    assert life.requests[0] > 0
    assert life.requests[1] == 0
    for name, (cold, warm, _) in life.loads.items():
        xr.testing.assert_equal(cold, warm)
        assert cold.odc.geobox == warm.odc.geobox, name


def test_a_restart_keeps_what_is_cached_also_what_is_void(life):
    assert life.requests[2] == 0
    assert life.chunks[0] == life.chunks[1] > 0
    for cold, _, after in life.loads.values():
        xr.testing.assert_equal(cold, after)


def test_all_six_bands_come_at_once(life, asked, truth):
    found = life.loads["six bands"][0]
    assert tuple(found.data_vars) == BANDS
    for band in BANDS:
        expected = truth("32m", asked["six bands"][0], band)
        assert found[band].dtype == expected.dtype
        np.testing.assert_array_equal(found[band].values, expected, err_msg=band)


def test_a_gap_in_the_source_is_void_and_said_to_be(life):
    assert (life.loads["void"][0].dem == NODATA).all()
    void, needed = life.void
    assert void == needed > 0


def test_repository_opens_with_xarray_after_the_daemon_stopped(repository, asked, truth):
    geobox = asked["coast"][0]
    store = repository.readonly_session("main").store
    with xr.open_zarr(store, consolidated=False, chunks=None, decode_coords="all") as cube:
        x, y = geobox.coordinates["x"].values, geobox.coordinates["y"].values
        here = cube[["dem", "count"]].sel(x=slice(x[0], x[-1]), y=slice(y[0], y[-1])).load()
        assert [float(step) for step in cube.spatial_ref.attrs["GeoTransform"].split()][1::4] == [32, -32]
    np.testing.assert_array_equal(here.x, x)
    np.testing.assert_array_equal(here.y, y)
    assert here.odc.geobox == geobox
    expected = truth("32m", geobox)
    assert 0 < (expected == NODATA).sum() < expected.size
    np.testing.assert_array_equal(here.dem.values, np.where(expected == NODATA, np.nan, expected))
    np.testing.assert_array_equal(here["count"].fillna(0).values, truth("32m", geobox, "count"))


def test_commits_name_the_items_that_their_chunks_come_from(repository):
    fills = [info for info in repository.ancestry(branch="main") if info.message.startswith("fill")]
    items = {item for info in fills for item in info.metadata["items"]}
    paths = [path for info in fills for found in info.metadata["items"].values() for path in found]
    assert {"67_33_32m_v4.1", "67_32_32m_v4.1", "68_33_32m_v4.1"} <= items
    assert all(path.split("/")[0] in BANDS for path in paths)
    assert any("67_33_32m_v4.1" in info.message for info in fills)
    assert any(info.metadata["void"] for info in fills)
