"""Merging: equal to a plain loop over pixels, whatever the tiles, the dtype and the window."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.collection import DTYPES, BandSpec
from icehouse_server.core.grid import Window
from icehouse_server.sources.cog.item_pixels import ItemPixels
from icehouse_server.sources.stac.merge import merge

SIDE = 24
NODATA = {"float32": -9999.0, "float64": float("nan"), "uint8": 0, "int8": -128, "int16": -9999}


def band_of(dtype):
    return BandSpec(name="b", dtype=np.dtype(dtype), nodata=NODATA.get(dtype, 0))


@st.composite
def windows(draw, low=-6, high=SIDE + 6):
    row, col = draw(st.integers(low, high - 1)), draw(st.integers(low, high - 1))
    return Window(
        row=row, col=col, height=draw(st.integers(1, high - row)), width=draw(st.integers(1, high - col))
    )


def world(extents, dtype, seed, share):
    """Pixels and validity of each item over its extent."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else None
    made = []
    for extent in extents:
        shape = (extent.height, extent.width)
        values = (
            rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
            if info
            else rng.normal(size=shape).astype(dtype)
        )
        made.append((values, rng.random(shape) < share))
    return made


def reference(window, band, extents, items):
    """Pixel by pixel: the first item that covers it and is valid there."""
    values = np.full((window.height, window.width), band.fill, dtype=band.dtype)
    valid = np.zeros(values.shape, dtype=bool)
    for row in range(window.row, window.stop_row):
        for col in range(window.col, window.stop_col):
            for extent, (pixels, mask) in zip(extents, items, strict=True):
                if not (extent.row <= row < extent.stop_row and extent.col <= col < extent.stop_col):
                    continue
                inside = row - extent.row, col - extent.col
                if mask[inside]:
                    place = row - window.row, col - window.col
                    values[place], valid[place] = pixels[inside], True
                    break
    return values, valid


def run(window, band, extents, items):
    """The loop of the source, with arrays in place of files. Returns the block, passes and pixels read."""
    pieces, passes, read = defaultdict(list), 0, 0
    while (merged := merge(window, band, extents, pieces)).needed:
        passes += 1
        assert passes <= len(extents) + 1
        for number, part in merged.needed.items():
            assert part.intersection(window) == part
            assert part.intersection(extents[number]) == part
            values, valid = items[number]
            inside = part.slices(extents[number])
            pieces[number].append(ItemPixels(window=part, values=values[inside], valid=valid[inside]))
            read += part.pixels
    return merged.block, passes, read


@settings(max_examples=150, deadline=None)
@given(
    extents=st.lists(windows(), max_size=6),
    window=windows(low=0, high=SIDE),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_merge_is_the_plain_loop(extents, window, dtype, seed, share):
    band, items = band_of(dtype), world(extents, dtype, seed, share)
    block, passes, read = run(window, band, extents, items)
    values, valid = reference(window, band, extents, items)
    np.testing.assert_array_equal(block.valid, valid)
    np.testing.assert_array_equal(block.values, values)
    assert block.values.dtype == band.dtype
    if share == 1.0:
        assert passes <= 1, "no holes, no second pass"
    assert read <= 2 * len(extents) * window.pixels


@settings(max_examples=60, deadline=None)
@given(
    extents=st.lists(windows(), min_size=1, max_size=5),
    window=windows(low=0, high=SIDE),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_pixel_does_not_depend_on_the_window(extents, window, seed):
    band, items = band_of("int16"), world(extents, "int16", seed, 0.6)
    whole = Window(row=0, col=0, height=SIDE, width=SIDE)
    everything, _, _ = run(whole, band, extents, items)
    block, _, _ = run(window, band, extents, items)
    inside = window.slices(whole)
    np.testing.assert_array_equal(block.valid, everything.valid[inside])
    np.testing.assert_array_equal(block.values, everything.values[inside])


def test_one_pass_reads_nothing_twice_of_tiles_that_are_full():
    """Two tiles with a buffer: of the second only what the first does not cover."""
    extents = [Window(row=0, col=0, height=10, width=12), Window(row=0, col=8, height=10, width=12)]
    window = Window(row=0, col=0, height=10, width=20)
    merged = merge(window, band_of("uint8"), extents, {})
    assert merged.needed == {0: extents[0], 1: Window(row=0, col=12, height=10, width=8)}


def test_nothing_there():
    merged = merge(Window(row=0, col=0, height=2, width=3), band_of("float32"), [], {})
    assert not merged.needed
    assert not merged.block.valid.any()
    assert (merged.block.values == -9999).all()


@pytest.mark.parametrize("payload", [0x7FC00001, 0x80000000, 0x00000001])
def test_bits_are_kept(payload):
    """A NaN's payload, minus zero, a denormal: what is valid is copied, never computed with."""
    window = Window(row=0, col=0, height=1, width=1)
    values = np.array([[payload]], dtype=np.uint32).view(np.float32)
    piece = ItemPixels(window=window, values=values, valid=np.ones((1, 1), dtype=bool))
    merged = merge(window, band_of("float32"), [window], {0: [piece]})
    assert merged.block.values.view(np.uint32)[0, 0] == payload
