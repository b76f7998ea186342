"""Places on a lattice, and what the compiled part refuses; tests/property holds its pixels to GDAL's."""

import numpy as np
import pytest
from pyproj import Transformer

from icehouse_server.raster import kernel

SIZE = 200


def curved(cols, rows):
    return 1.1 * cols + 2e-5 * rows**2, rows + 1e-5 * cols * rows


def torn(cols, rows):
    """A jump along a slanting line, and no place at all beyond another."""
    x, y = curved(cols, rows)
    return np.where(cols + rows / 3 > 120, x - 100, x), np.where(cols > 190.2, np.inf, y)


def pole(cols, rows):
    """Longitude and latitude around the north pole, as columns and rows of quarters of a degree."""
    to_degrees = Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform((cols - 90.3) * 2e4, (95.7 - rows) * 2e4)
    return (lon + 180) * 4, (90 - lat) * 4


def interpolated(places, shape):
    """The place of every pixel, as the compiled part computes it."""
    step, found = places.step, np.empty((*shape, 2))
    for row, col in np.ndindex(*shape):
        (i, down), (j, along) = divmod(row, step), divmod(col, step)
        if places.cells[i, j] >= 0:
            found[row, col] = places.blocks[places.cells[i, j], down, along]
            continue
        a, b, c, d = places.lattice[i : i + 2, j : j + 2].reshape(4, 2)
        t, u = down / step, along / step
        found[row, col] = (1 - t) * ((1 - u) * a + u * b) + t * ((1 - u) * c + u * d)
    return found


@pytest.mark.parametrize("method", ["nearest", "average"])
@pytest.mark.parametrize("project", [curved, torn, pole])
def test_places_are_right_to_the_tolerance(project, method):
    shape = (SIZE, SIZE + 7)
    origin = 0.0 if method == "average" else 0.5
    got = interpolated(kernel.places_of(project, shape, method), shape)
    rows, cols = (np.indices(shape) + origin).astype(float)
    exact = np.stack(project(cols.ravel(), rows.ravel()), axis=-1).reshape(got.shape)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(exact))
    known = np.isfinite(exact)
    assert np.abs(got[known] - exact[known]).max() <= 2 * kernel.TOLERANCE


def test_few_places_are_computed_where_the_transform_is_smooth():
    calls = []

    def counted(cols, rows):
        calls.append(cols.size)
        return curved(cols, rows)

    places = kernel.places_of(counted, (1024, 1024), "nearest")
    assert places.blocks.shape[0] == 0
    assert sum(calls) < 1024 * 1024 / 10


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("method", kernel.METHODS)
@pytest.mark.parametrize("project", [torn, pole])
def test_threads_and_blocks_change_no_pixel(project, method, dtype):
    source = (np.indices((300, 1500)).sum(axis=0) % 251).astype(dtype)
    outs = []
    for threads in (1, 4):
        out = np.full((SIZE, SIZE), 7, dtype=dtype)
        places = kernel.places_of(project, out.shape, method)
        assert (places.cells >= 0).any()
        kernel.warp(source, places, method=method, scales=(1.5, 2), nodata=None, out=out, threads=threads)
        outs.append(out)
    np.testing.assert_array_equal(*outs)
    assert len(np.unique(outs[0])) > 50


def test_part_of_an_array_is_written_and_nothing_next_to_it():
    whole = np.zeros((60, 80), dtype=np.float32)
    places = kernel.places_of(lambda cols, rows: (cols, rows), (30, 40), "bilinear")
    source = np.ones((30, 40), dtype=np.float32)
    kernel.warp(
        source, places, method="bilinear", scales=(1, 1), nodata=None, out=whole[10:40, 20:60], threads=2
    )
    assert whole.sum() == 30 * 40
    assert whole[10:40, 20:60].all()


def test_arrays_that_do_not_fit_are_refused():
    places = kernel.places_of(lambda cols, rows: (cols, rows), (30, 40), "nearest")

    def warp(source, out, nodata=None, scales=(1, 1)):
        kernel.warp(source, places, method="nearest", scales=scales, nodata=nodata, out=out)

    good, out = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    warp(good, out)
    with pytest.raises(ValueError, match="lattice and cells do not fit out"):
        warp(good, np.zeros((64, 40), np.uint8))
    with pytest.raises(ValueError, match="out does not fit source"):
        warp(good, np.zeros((30, 40), np.uint16))
    with pytest.raises(ValueError, match="out does not fit source"):
        warp(good, np.zeros((40, 30), np.uint8).T)
    with pytest.raises(ValueError, match="source is empty"):
        warp(np.zeros((0, 40), np.uint8), out)
    with pytest.raises(ValueError, match="dimensions"):
        warp(np.zeros(40, np.uint8), out)
    with pytest.raises(ValueError, match="dtype that the kernel does not know"):
        warp(np.zeros((30, 40), np.complex64), np.zeros((30, 40), np.complex64))
    with pytest.raises(ValueError, match="scale is out of range"):
        warp(good, out, scales=(float("inf"), 1))
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        warp(good, out)


def test_kernel_says_what_it_can_warp():
    assert kernel.can_warp(np.dtype("float32"), "bilinear")
    assert not kernel.can_warp(np.dtype("int64"), "bilinear")
    assert not kernel.can_warp(np.dtype("float32"), "mode")
    assert kernel.name() == "kernel"
