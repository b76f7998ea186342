"""Pictures of a colour table are written with a palette, and look as they would without."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.style import Style
from icehouse_server.output import legend_png, map_tile
from icehouse_server.output.map_tile import Indexed, colour_table, encode_picture
from icehouse_server.testing.fakes import tiny_spec


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


@given(seed=st.integers(0, 2**32 - 1), colours=st.sampled_from([1, 7, 255, 256]), shown=st.floats(0, 1))
@pytest.mark.parametrize("table", ["viridis", "terrain"])
def test_a_palette_changes_no_pixel(table, seed, colours, shown):
    random = np.random.default_rng(seed)
    numbers = random.integers(0, colours, (64, 64)).astype(np.uint8)
    where = random.random((64, 64)) <= shown
    wanted = colour_table(table)[numbers]
    picture = map_tile._coloured(np.where(where, numbers, 0).astype(np.uint8), where, colour_table(table))
    got = decoded(encode_picture(picture, "png"))
    np.testing.assert_array_equal(got[where], wanted[where])
    assert (got[~where][:, 3] == 0).all()


def test_all_colours_and_a_hole_are_no_palette():
    numbers = np.arange(256, dtype=np.uint8).repeat(2).reshape(16, 32)
    where = np.ones(numbers.shape, dtype=bool)
    table = colour_table("viridis")
    assert isinstance(map_tile._coloured(numbers, where, table), Indexed)
    where[0, 0] = False
    assert not isinstance(map_tile._coloured(numbers, where, table), Indexed)


def test_part_cut_off_is_transparent_and_the_table_is_unchanged():
    table = colour_table("viridis")
    before = table.copy()
    numbers = np.full((8, 8), 100, dtype=np.uint8)
    where = np.tri(8, dtype=bool)
    cut = map_tile.cut(Indexed(numbers=numbers, colours=table), where)
    np.testing.assert_array_equal(cut[where], before[numbers][where])
    assert (cut[~where][:, 3] == 0).all()
    np.testing.assert_array_equal(table, before)


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_a_legend_says_what_stored_values_mean(names):
    def legend(scale, offset, rescale):
        bands = tuple(
            BandSpec(name=name, dtype=np.dtype("int16"), nodata=None, scale=scale, offset=offset)
            for name in names
        )
        style = Style(name="x", title="X", bands=names, rescale=(rescale,) * len(names))
        return legend_png(style, tiny_spec(bands=bands))

    assert legend(0.0001, -0.1, (1000, 4000)) == legend(1.0, 0.0, (0, 0.3))
    assert legend(1.0, 0.0, (0, 0.3)) != legend(1.0, 0.0, (0, 0.4))
