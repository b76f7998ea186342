from __future__ import annotations

import numpy as np
import pytest
from affine import Affine

from icehouse_server.demo import pixels, terrain, world
from icehouse_server.demo.pgc import ASSETS, parse_key, tile_of, tile_of_item

PLACES = {"arcticdem": (-760_000.0, 2_650_000.0), "rema": (-2_450_000.0, 1_350_000.0)}


def axes(x0, y0, pixel, n=64):
    steps = (np.arange(n) + 0.5) * pixel
    return x0 + steps, y0 - steps


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("pixel", [2, 10, 32])
def test_a_pixel_has_the_same_height_in_every_window(place, pixel):
    x, y = axes(*place, pixel, 300)
    whole = terrain.height(x, y, pixel=pixel)
    for rows, columns in [
        (slice(3, 4), slice(5, 6)),
        (slice(17, 290), slice(255, 259)),
        (slice(100, 101), slice(None)),
    ]:
        assert np.array_equal(terrain.height(x[columns], y[rows], pixel=pixel), whole[rows, columns])


def test_heights_are_steps_of_one_128th_and_within_range():
    x, y = axes(-760_000, 2_650_000, 320, 300)
    z = terrain.height(x, y, pixel=32)
    assert z.dtype == np.float32
    assert np.array_equal(z * 128, np.round(z * 128))
    assert 0 < z.min() < z.max() < 1600
    assert z.std() > 50


def test_heights_are_continuous():
    x, y = axes(-760_000, 2_650_000, 2, 400)
    z = terrain.height(x, y, pixel=2)
    assert np.abs(np.diff(z, axis=0)).max() < 8
    assert np.abs(np.diff(z, axis=1)).max() < 8


def test_hillshade_of_a_window_is_the_window_of_the_hillshade():
    x, y = axes(-760_000, 2_650_000, 32, 100)
    whole = terrain.browse(x, y, pixel=32)
    assert np.array_equal(terrain.browse(x[10:60], y[20:21], pixel=32), whole[20:21, 10:60])
    assert whole.min() >= 1


@pytest.mark.parametrize(("resolution", "overlap"), [("32m", 6), ("10m", 20)])
@pytest.mark.parametrize("asset", ASSETS)
def test_neighbours_agree_in_their_buffers(resolution, overlap, asset):
    west, east = tile_of("arcticdem", resolution, "55_25"), tile_of("arcticdem", resolution, "55_26")
    rows, columns = west.shape(asset)
    start = rows // 2 - 500
    here = pixels.render(west, asset, start, columns - overlap, (1000, overlap))
    there = pixels.render(east, asset, start, 0, (1000, overlap))
    assert np.array_equal(here, there)


def test_bare_buffer_is_nodata_in_one_tile_and_valid_in_the_next():
    west, east = tile_of("arcticdem", "32m", "67_33"), tile_of("arcticdem", "32m", "67_34")
    here = pixels.render(west, "dem", 0, 3128, (3131, 3))
    there = pixels.render(east, "dem", 0, 3, (3131, 3))
    assert (here == -9999).all()
    assert (there != -9999).mean() > 0.9


def test_the_truth_fills_a_bare_buffer_from_the_neighbour():
    west, east = tile_of("arcticdem", "32m", "67_33"), tile_of("arcticdem", "32m", "67_34")
    affine = Affine(32, 0, west.bounds[0] + 3128 * 32, 0, -32, west.bounds[3] - 1000 * 32)
    array, valid = pixels.truth("arcticdem", "32m", "dem", affine, (50, 3))
    assert np.array_equal(array, pixels.render(east, "dem", 1000, 3, (50, 3)))
    assert np.array_equal(valid, array != -9999)


def test_the_published_names_and_places():
    tile = tile_of("rema", "32m", "44_06")
    assert tile.item_id == "44_06_32m_v2.0"
    assert tuple(tile.affine())[:6] == (32, 0, -2500096, 0, -32, 1400096)
    assert tile.shape() == (3131, 3131)
    assert tile_of("arcticdem", "10m", "58_05").shape() == (10020, 10020)
    quarter = tile_of("arcticdem", "2m", "14_52_2_1")
    assert quarter.shape() == (25100, 25100)
    assert quarter.shape("hillshade") == (5020, 5020)
    assert quarter.core == (1_100_000, -2_650_000, 1_150_000, -2_600_000)
    assert tile_of_item("14_52_2_1_2m_v4.1", "arcticdem") == quarter
    assert parse_key(quarter.key("dem")) == (quarter, "dem")


@pytest.mark.parametrize(
    "key", ["", "x", "rema/mosaics/v2.0/32m/44_06/44_06_32m_v2.0_datamask.tif", "../etc/passwd"]
)
def test_other_keys_are_refused(key):
    with pytest.raises(ValueError, match=r"not a published object|not an item"):
        parse_key(key)


def test_the_world_has_what_it_declares():
    names = {tile.name for tile in world.tiles("arcticdem", "32m")}
    around = {f"{row}_{column}" for row in (66, 67, 68) for column in (32, 33, 34)}
    assert around - names == {"68_32"}
    assert {"55_26", "58_23", "29_52", "44_74", "14_52", "46_19", "07_40"} <= names
    quarters = {tile.name for tile in world.tiles("arcticdem", "2m")}
    assert {"44_74_1_2", "14_52_2_1", "46_19_2_2", "07_40_2_2"} <= quarters
    assert len(quarters) == 4 * len(names) - 1


@pytest.mark.parametrize("resolution", ["2m", "10m", "32m"])
def test_tiles_are_found_by_place(resolution):
    box = (-760_050.0, 2_599_950.0, -699_950.0, 2_650_050.0)
    slow = [
        tile
        for tile in world.tiles("arcticdem", resolution)
        if tile.bounds[0] < box[2]
        and tile.bounds[2] > box[0]
        and tile.bounds[1] < box[3]
        and tile.bounds[3] > box[1]
    ]
    assert list(world.tiles_in("arcticdem", resolution, box)) == slow
