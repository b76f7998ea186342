"""Earth Engine through the daemon and the real client: pixels, faults while another collection works,
endings."""

from __future__ import annotations

import signal
import threading

import httpx
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import icehouse
from icehouse_server.collections.loader import read_collections
from icehouse_server.core.grid import Window
from icehouse_server.demo.faults import Fault, Page, Stall, Status
from support.earthengine import rig
from support.earthengine.standin import COMPUTE_PIXELS

COLLECTIONS = "arcticdem-32m,tctrend"
SPECS = read_collections(None)


def geobox(name, west, south, east, north):
    """The pixels of a collection's grid whose centres lie in a box."""
    spec = SPECS[name]
    affine = spec.grid.geobox.affine
    edges = [*(~affine * (west, north)), *(~affine * (east, south))]
    left, top, right, bottom = (round(edge) for edge in edges)
    rows, cols = spec.grid.shape
    window = Window.from_bounds(max(top, 0), max(left, 0), min(bottom, rows), min(right, cols))
    return spec.grid.geobox_of(window), window


@pytest.fixture
def started(daemon, fresh_earth_engine, monkeypatch):
    """Starts a daemon that asks the stand-in."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def start(**settings):
        access = {"url": fresh_earth_engine.url, "credentials": "none", "project": "any-project"}
        own = {f"earthengine_{name}": value for name, value in access.items()}
        return daemon(**{"collections": COLLECTIONS, **own, **settings})

    return start


def test_a_bbox_across_180_is_one_region(started):
    """Over HTTP, without a size: the grid goes on at its other end, each pixel the nearest one there."""
    spec = SPECS["tctrend"]
    answer = httpx.get(
        f"{started().url}/collections/tctrend/coverage.tif",
        params={"bbox": "179.97,67.5,-179.97,67.52", "bands": "TCG_slope,datamask"},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    with rasterio.MemoryFile(answer.content) as memory, memory.open() as file:
        values, mask = file.read()
        affine, (rows, cols) = file.transform, file.shape
    assert affine.a == spec.grid.geobox.affine.a
    assert affine.c < 180 < affine.c + cols * affine.a
    grid = spec.grid.geobox.affine
    x = affine.c + affine.a * (np.arange(cols) + 0.5)
    places = np.floor(((x + 180) % 360 - 180 - grid.c) / grid.a).astype(int)
    top = round((affine.f - grid.f) / grid.e)
    for side in (places > spec.grid.shape[1] // 2, places <= spec.grid.shape[1] // 2):
        chosen = places[side]
        window = Window(row=top, col=int(chosen[0]), height=rows, width=int(chosen[-1] - chosen[0]) + 1)
        wanted, valid = rig.truth_of(spec, "TCG_slope", window)
        shown = valid[:, chosen - chosen[0]]
        assert shown.mean() > 0.9
        np.testing.assert_array_equal(mask[:, side] == 1, shown)
        np.testing.assert_array_equal(values[:, side][shown], wanted[:, chosen - chosen[0]][shown])


@pytest.mark.parametrize(
    "box", [(-180.0, 67.5, -179.5, 67.8), (179.5, 67.5, 180.0, 67.8)], ids=["-180", "180"]
)
def test_tctrend_at_the_antimeridian(started, fresh_earth_engine, box):
    """The region that was asked for, pixel by pixel; small holes are filled, and datamask tells them."""
    asked, window = geobox("tctrend", *box)
    loaded = started().client("tctrend").load(asked, bands=[*SPECS["tctrend"].default_bands, "datamask"])
    assert loaded.TCB_slope.shape == (window.height, window.width)
    _, mask = rig.truth_of(SPECS["tctrend"], "TCB_slope", window)
    np.testing.assert_array_equal(loaded.datamask.to_numpy() == 1, mask)
    assert mask.mean() > 0.9
    for name in SPECS["tctrend"].default_bands:
        values, valid = rig.truth_of(SPECS["tctrend"], name, window)
        np.testing.assert_array_equal(loaded[name].to_numpy()[valid], values[valid])
    assert fresh_earth_engine.counters().matching(":computePixels")[0] <= 4


def test_alphaearth_two_years_and_some_bands(started, fresh_earth_engine):
    """A band that was fetched is not fetched again, and of the others none is."""
    spec = SPECS["alphaearth"]
    asked, window = geobox("alphaearth", 11.99, 60.0, 12.01, 60.01)
    client = started(collections="alphaearth").client("alphaearth")
    loaded = client.load(asked, bands=["A00", "A63"], datetime=slice("2018", "2019"))
    assert loaded.sizes["time"] == 2
    for number, step in enumerate((spec.step(1), spec.step(2))):
        for name in ("A00", "A63"):
            values, valid = rig.truth_of(spec, name, window, step=step)
            found = loaded[name].isel(time=number).to_numpy()
            np.testing.assert_array_equal(np.isnan(found), ~valid)
            np.testing.assert_array_equal(found[valid], values[valid])
    fetched = fresh_earth_engine.counters().matching(":computePixels")
    client.load(asked, bands=["A63"], datetime="2019")
    assert fresh_earth_engine.counters().matching(":computePixels") == fetched


def test_while_earth_engine_hangs_another_collection_answers(started, fresh_earth_engine):
    """And what hangs ends in an error that names it."""
    fresh_earth_engine.faults([Fault(action=Stall(seconds=600), path=COMPUTE_PIXELS, times=None)])
    running = started(read_timeout=3, connect_timeout=3, fetch_attempts=1)
    asked, _ = geobox("tctrend", -150.0, 67.5, -149.9, 67.6)
    errors = []

    def load():
        with pytest.raises(icehouse.IcehouseError) as caught:
            running.client("tctrend").load(asked)
        errors.append(caught.value)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    other = GeoBox((64, 64), Affine(32, 0, -740_000, 0, -32, 2_640_000), "EPSG:3413")
    assert running.client().load(other).dem.shape == (64, 64)
    for thread in threads:
        thread.join()
    assert all("did not answer in time" in str(error) for error in errors)
    assert len(errors) == 4


FAILURES = {
    "429": Status(status=429, body="google"),
    "memory limit": Status(status=400, body="google", message="User memory limit exceeded."),
    "503": Status(status=503, body="html"),
    "something else than pixels": Page(),
}


@pytest.mark.slow
def test_what_fails_is_named(started, fresh_earth_engine):
    client = started(fetch_attempts=2).client("tctrend")
    for number, (says, action) in enumerate(FAILURES.items()):
        fresh_earth_engine.faults([Fault(action=action, path=COMPUTE_PIXELS, times=None)])
        asked, _ = geobox("tctrend", -150.0 + number, 67.5, -149.99 + number, 67.51)
        with pytest.raises(icehouse.IcehouseError, match=says):
            client.load(asked)


def test_a_hanging_request_does_not_hold_up_the_end(started, fresh_earth_engine):
    fresh_earth_engine.faults([Fault(action=Stall(seconds=600), path=COMPUTE_PIXELS, times=None)])
    running = started(read_timeout=600, shutdown_timeout=1)
    asked, _ = geobox("tctrend", -150.0, 67.5, -149.99, 67.51)
    client = running.client("tctrend")

    def load():
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the end of a daemon looks like
            client.load(asked)

    thread = threading.Thread(target=load)
    thread.start()
    while not fresh_earth_engine.counters().matching(":computePixels")[0]:
        thread.join(0.05)
    running.signal(signal.SIGTERM)
    assert running.wait(60) == 0
    thread.join()


def test_without_credentials_the_others_are_served(started):
    """The daemon starts, and reading says how to authenticate."""
    running = started(earthengine_credentials="/nowhere/key.json")
    other = GeoBox((64, 64), Affine(32, 0, -740_000, 0, -32, 2_640_000), "EPSG:3413")
    assert running.client().load(other).dem.shape == (64, 64)
    asked, _ = geobox("tctrend", -150.0, 67.5, -149.99, 67.51)
    with pytest.raises(icehouse.IcehouseError, match="earthengine_credentials /nowhere/key") as failed:
        running.client("tctrend").load(asked)
    assert "how to set up access" in str(failed.value)
    assert "try again later" not in str(failed.value)
