"""Pictures of a colour table are written with a palette, and look as they would without."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from icehouse_server.output import pictures
from icehouse_server.output.pictures import Indexed, colour_table, encode_picture


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


@given(seed=st.integers(0, 2**32 - 1), colours=st.sampled_from([1, 7, 255, 256]), shown=st.floats(0, 1))
@pytest.mark.parametrize("table", ["viridis", "terrain"])
def test_a_palette_changes_no_pixel(table, seed, colours, shown):
    random = np.random.default_rng(seed)
    numbers = random.integers(0, colours, (64, 64)).astype(np.uint8)
    where = random.random((64, 64)) <= shown
    wanted = colour_table(table)[numbers]
    picture = pictures._coloured(np.where(where, numbers, 0).astype(np.uint8), where, colour_table(table))
    got = decoded(encode_picture(picture, "png"))
    np.testing.assert_array_equal(got[where], wanted[where])
    assert (got[~where][:, 3] == 0).all()


def test_all_colours_and_a_hole_are_no_palette():
    numbers = np.arange(256, dtype=np.uint8).repeat(2).reshape(16, 32)
    where = np.ones(numbers.shape, dtype=bool)
    table = colour_table("viridis")
    assert isinstance(pictures._coloured(numbers, where, table), Indexed)
    where[0, 0] = False
    assert not isinstance(pictures._coloured(numbers, where, table), Indexed)


def test_a_part_that_is_cut_off_is_transparent_and_the_table_stays_as_it_was():
    table = colour_table("viridis")
    before = table.copy()
    numbers = np.full((8, 8), 100, dtype=np.uint8)
    where = np.tri(8, dtype=bool)
    cut = pictures.cut(Indexed(numbers=numbers, colours=table), where)
    np.testing.assert_array_equal(cut[where], before[numbers][where])
    assert (cut[~where][:, 3] == 0).all()
    np.testing.assert_array_equal(table, before)
