"""Every collection that comes built in, through the daemon and the client, each from its stand-in."""

from __future__ import annotations

import json

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import icehouse
from icehouse_server.collections.loader import read_collections
from icehouse_server.core.grid import Window
from support.earth_search import dem, items, pixels, world
from support.earthengine import rig

SPECS = read_collections(None)
EARTH_ENGINE = sorted(name for name, spec in SPECS.items() if spec.source_type == "earthengine")
HIDDEN = (0, 1, 3, 8, 9, 10, 11)
"""Classes that the template of Sentinel-2 leaves out."""


@pytest.fixture(scope="module")
def everything(launcher, standins, earth_engine, earth_search):
    """One daemon with all built-in collections, and with a file that `icehouse collections add` made."""
    mine = launcher.folder / "mine"
    added = launcher.command(
        *("collections", "add", "sentinel-2-l2a-monthly", "--crs", "EPSG:32633", "--resolution", "10"),
        *("--bbox", "286000,5332000,289000,5336000", "--bbox-crs", "EPSG:32633", "--chunk", "128"),
        collections_dir=mine,
    )
    assert added.returncode == 0, added.stderr
    return launcher(
        collections="",
        collections_dir=mine,
        mirrors=json.dumps({**standins.mirrors, **earth_search.mirrors}),
        earthengine_url=earth_engine.url,
        earthengine_project="any-project",
        earthengine_credentials="none",
    )


def test_all_of_them_are_served(everything):
    assert set(icehouse.Client(everything.url).collections()) == {*SPECS, "sentinel-2-l2a-monthly"}


@pytest.mark.parametrize("name", EARTH_ENGINE)
def test_earth_engine(everything, name):
    spec = SPECS[name]
    affine = spec.grid.geobox.affine
    col, row = ~affine * (12.0, 60.0)
    window = Window(row=int(row), col=int(col), height=40, width=50)
    step = None if spec.time is None else spec.time.step(3)
    bands = spec.default_bands[:2]
    when = None if step is None else str(step.start.year)
    loaded = everything.client(name).load(spec.grid.geobox_of(window), bands=bands, datetime=when)
    for band in bands:
        values, valid = rig.truth_of(spec, band, window, step=step)
        found = loaded[band].to_numpy().reshape(window.height, window.width)
        assert valid.mean() > 0.9
        np.testing.assert_array_equal(found[valid], values[valid])


def test_the_copernicus_dem(everything):
    west, north = 11.5, 48.6
    spacing = 1 / 3600
    box = GeoBox(
        (60, 80), Affine(spacing, 0, west - spacing / 2, 0, -spacing, north + spacing / 2), "EPSG:4326"
    )
    loaded = everything.client("cop-dem-glo-30").load(box)
    truth = dem.elevation(west + np.arange(80) * spacing, north - np.arange(60) * spacing)
    np.testing.assert_array_equal(loaded.dem.to_numpy(), truth)


def test_a_month_of_sentinel_2(everything):
    """Medians of what the scenes hold under no cloud; a month without scenes is void, and no error."""
    left, top, shape = 287_000, 5_335_000, (150, 120)
    box = GeoBox(shape, Affine(10, 0, left, 0, -10, top), "EPSG:32633")
    loaded = everything.client("sentinel-2-l2a-monthly").load(
        box, bands="red", datetime=["2023-01", "2023-04"]
    )
    january, april = loaded.red.to_numpy()
    assert (april == 0).all()
    layers = []
    for scene in world.scenes(world.SENTINEL_2):
        month = (scene.time.year, scene.time.month)
        if scene.tile.name != "33UUP" or month != (2023, 1) or items.cloud_cover(scene) >= 90:
            continue
        col, row = ~scene.affine("red") * (left, top)
        red = pixels.render(scene, "red", round(row), round(col), shape).astype(float)
        half = (shape[0] // 2, shape[1] // 2)
        classes = pixels.render(scene, "scl", round(row) // 2, round(col) // 2, half)
        hidden = np.isin(classes.repeat(2, 0).repeat(2, 1), HIDDEN) | (red == 0)
        layers.append(np.where(hidden, np.nan, red))
    assert len(layers) >= 3
    seen = ~np.isnan(layers).all(axis=0)
    assert seen.mean() > 0.5
    median = np.nanmedian(np.array(layers)[:, seen], axis=0)
    np.testing.assert_array_equal(january[seen], np.rint(median).astype("uint16"))
    assert (january[~seen] == 0).all()
    assert loaded.red.attrs["scale_factor"] == 0.0001
