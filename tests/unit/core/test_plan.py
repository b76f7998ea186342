"""Plans: what they count, and what they refuse before anything is computed."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import TooLargeError
from icehouse_server.core.geometry import footprint as footprints
from icehouse_server.core.geometry.footprint import footprint
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.limits import Limits
from icehouse_server.core.plan import Region, make_plan
from icehouse_server.testing.fakes import MemorySink, tiny_spec

SPEC = tiny_spec()  # 150 x 200 pixels in chunks of 16: 10 x 13 chunks
ARCTIC = tiny_spec("arctic", rows=3_750_100, cols=3_700_100, chunk=512, resolution=2.0)


class Holding(MemorySink):
    """Holds the chunks that it is made with."""

    def __init__(self, *keys):
        super().__init__()
        self.chunks = dict.fromkeys(keys)


def region(window=None, *, target=None, spec=SPEC, bands=("dem",), **options):
    return Region(
        collection=spec, bands=spec.select(bands), target=target or spec.grid.geobox_of(window), **options
    )


def test_window_on_the_lattice_needs_its_chunks_and_is_copied():
    window = Window(row=15, col=16, height=2, width=16)
    plan = make_plan(region(window, bands=("dem", "mask")), Holding(SPEC.key("dem", 0, 1)), Limits())
    assert plan.footprint.aligned
    assert [(key.band, key.row, key.col) for key in plan.needed] == [
        ("dem", 0, 1),
        ("dem", 1, 1),
        ("mask", 0, 1),
        ("mask", 1, 1),
    ]
    assert set(plan.needed) - set(plan.absent) == {SPEC.key("dem", 0, 1)}
    assert plan.window == window
    assert plan.output_bytes == 32 * 4 + 32 * 1
    assert plan.estimated_source_bytes == 256 * 4 + 2 * 256 * 1


def test_what_sticks_out_of_the_grid_is_cut_for_reading_only():
    plan = make_plan(region(Window(row=-5, col=-7, height=10, width=10)), Holding(), Limits())
    assert plan.region.shape == (10, 10)
    (piece,) = plan.footprint.pieces
    assert piece.source == Window(row=0, col=0, height=5, width=3)
    assert piece.target == Window(row=5, col=7, height=5, width=3)


@pytest.mark.parametrize(
    "target",
    [
        SPEC.grid.geobox_of(Window(row=-50, col=0, height=50, width=10)),
        SPEC.grid.geobox_of(Window(row=0, col=200, height=5, width=5)),
        GeoBox((10, 10), Affine(1, 0, 20, 0, -1, -20), "EPSG:4326"),
        GeoBox((10, 10), Affine(100, 0, 10**6, 0, -100, 10**6), "EPSG:32633"),
    ],
)
def test_elsewhere_is_outside(target):
    plan = make_plan(region(target=target), Holding(), Limits())
    assert plan.outside
    assert plan.needed == plan.absent == ()
    assert plan.window is None


def test_limits_hold_for_all_bands_together_and_name_the_setting():
    whole = region(SPEC.grid.window, bands=("dem", "mask"))
    for limits, setting, asked in (
        (Limits(max_output_pixels=2 * 150 * 200 - 1), "max_output_pixels", 2 * 150 * 200),
        (Limits(max_chunks=2 * 130 - 1), "max_chunks", 2 * 130),
        (Limits(max_fills=2 * 130 - 1), "max_fills", 2 * 130),
    ):
        with pytest.raises(TooLargeError) as caught:
            make_plan(whole, Holding(), limits)
        assert caught.value.extensions() == {"limit": asked - 1, "asked": asked, "setting": setting}
        assert setting in caught.value.hint
    exact = Limits(max_output_pixels=2 * 150 * 200, max_chunks=260, max_fills=260)
    assert len(make_plan(whole, Holding(), exact).absent) == 260


def test_cached_chunks_do_not_count_as_fetched():
    keys = make_plan(region(SPEC.grid.window), Holding(), Limits()).needed
    assert make_plan(region(SPEC.grid.window), Holding(*keys), Limits(max_fills=1)).absent == ()


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(ARCTIC.grid.geobox, id="every pixel"),
        pytest.param(GeoBox((1000, 1000), Affine(7400, 0, -2000, 0, -7400, 1800), "EPSG:3413"), id="coarse"),
        pytest.param(GeoBox((1, 1), Affine(7.4e6, 0, -2000, 0, -7.4e6, 1800), "EPSG:3413"), id="one pixel"),
        pytest.param(GeoBox((2000, 4000), Affine(0.09, 0, -180, 0, -0.01, 90), "EPSG:4326"), id="degrees"),
    ],
)
def test_the_whole_arctic_at_two_metres_is_refused_at_once(target):
    begun = time.perf_counter()
    with pytest.raises(TooLargeError):
        make_plan(region(target=target, spec=ARCTIC), Holding(), Limits())
    best = time.perf_counter() - begun
    for _ in range(3):  # the best of some: machines share their cores
        begun = time.perf_counter()
        with pytest.raises(TooLargeError):
            make_plan(region(target=target, spec=ARCTIC), Holding(), Limits())
        best = min(best, time.perf_counter() - begun)
    assert best < 0.05


def test_an_answer_that_is_too_large_costs_no_geometry(monkeypatch):
    monkeypatch.setattr(footprints, "footprint", None)
    monkeypatch.setattr("icehouse_server.core.plan.footprint", None)
    with pytest.raises(TooLargeError):
        make_plan(region(ARCTIC.grid.window, spec=ARCTIC), Holding(), Limits())


def test_resampling_is_the_bands_own_unless_asked_for():
    asked = region(
        Window(row=0, col=0, height=1, width=1), bands=("dem", "mask"), resampling={"mask": "mode"}
    )
    assert [asked.resampling_of(band) for band in asked.bands] == ["bilinear", "mode"]
    with pytest.raises(TypeError):
        asked.resampling["dem"] = "cubic"


@pytest.mark.parametrize("method", ["bilinear", "cubic", "lanczos", "average"])
def test_a_wider_kernel_never_reads_less(method):
    target = GeoBox((40, 40), SPEC.grid.geobox.affine * Affine.translation(30.5, 30.5), "EPSG:3413")
    near = footprint(SPEC.grid, target, ["nearest"], max_chunks=999)
    wide = footprint(SPEC.grid, target, ["nearest", method], max_chunks=999)
    assert set(near.chunks) <= set(wide.chunks)
    (one,), (other,) = near.pieces, wide.pieces
    assert one.source.intersection(other.source) == one.source


@pytest.mark.parametrize("step", [0.01, 0.02, 0.05])
def test_pieces_beyond_the_antimeridian_skip_all_between(step):
    """A window from the first to the last column of a lon/lat grid would be the whole world in memory."""
    shape = (round(180 / step), round(360 / step))
    world = Grid(geobox=GeoBox(shape, Affine(step, 0, -180, 0, -step, 90), "EPSG:4326"), chunk=64)
    target = GeoBox(
        (256, 512), Affine(900, 0, -900 * 256, 0, -900, 900 * 128), "+proj=laea +lat_0=10 +lon_0=180"
    )
    try:
        found = footprint(world, target, ["bilinear"], max_chunks=10**6)
    except TooLargeError:
        return
    read = sum(piece.source.pixels for piece in found.pieces)
    assert read <= 4 * len(found.chunks) * 64 * 64


def test_values_are_frozen():
    plan = make_plan(region(Window(row=0, col=0, height=1, width=1)), Holding(), Limits())
    for value, name in (
        (plan, "needed"),
        (plan.region, "target"),
        (plan.footprint, "chunks"),
        (plan.footprint.pieces[0], "source"),
        (plan.needed[0], "row"),
        (SPEC, "id"),
        (SPEC.grid, "chunk"),
        (SPEC.bands[0], "dtype"),
        (Limits(), "max_fills"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_bands_keep_the_order_asked_for():
    band = BandSpec(name="x2", dtype=np.dtype("int16"), nodata=None)
    spec = tiny_spec(bands=(*SPEC.bands, band))
    assert [b.name for b in spec.select(["x2", "dem"])] == ["x2", "dem"]
    assert [b.name for b in spec.select(None)] == ["dem"]
