"""Styles: what is refused, and what a collection has whose file names none."""

from __future__ import annotations

import re

import pytest
from rio_tiler.colormap import cmap

from icehouse_server.api.parameters.styles import known_rescale
from icehouse_server.collections import read_collections
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.colormaps import COLORMAP_NAMES
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.style import Style

FILE = """
id = "lake"
title = "A lake"
{top}
[grid]
crs = "EPSG:3413"
resolution = 10
bounds = [0, 0, 1000, 500]

[extent]
bbox = [-50, 60, -40, 70]

[source]
type = "stac"
"""


def spec(*bands, top="", rest=""):
    listed = "".join(f'[[bands]]\nname = "{name}"\ndtype = "{dtype}"\n' for name, dtype in bands)
    return parse_collection(FILE.format(top=top) + listed + rest, "lake.toml")


def test_the_colour_tables_are_rio_tilers():
    assert set(cmap.list()) == COLORMAP_NAMES


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("name: ", {"name": "a b"}),
        ("bands: ", {"bands": ("a", "b")}),
        ("bands: ", {"bands": ("a", "b", "a")}),
        ("rescale: 2 pairs for 1", {"rescale": ((0, 1), (0, 1))}),
        ("rescale: pairs", {"rescale": ((1, 1),)}),
        ("rescale: pairs", {"rescale": ((0, float("nan")),)}),
        ("rescale: pairs", {"rescale": ((0, float("inf")),)}),
        ("rescale: pairs", {"rescale": ((-1e308, 1e308),)}),
        ("colormap_name: 'virdis'", {"colormap_name": "virdis"}),
        ("colormap_name: ", {"colormap_name": "viridis", "bands": ("a", "b", "c")}),
        ("hillshade: ", {"hillshade": True, "bands": ("a", "b", "c")}),
        ("rescale: ", {"hillshade": True, "rescale": ((0, 1),)}),
    ],
)
def test_a_style_that_can_not_be_is_refused_and_says_which_key(said, wrong):
    with pytest.raises(ValueError, match=re.escape(said)):
        Style(**{"name": "x", "title": "X", "bands": ("a",), **wrong})


def test_one_pair_is_for_all_three_bands():
    style = Style(name="x", title="X", bands=("a", "b", "c"), rescale=((0, 5),))
    assert style.rescale == ((0, 5), (0, 5), (0, 5))


def test_without_styles_each_default_band_and_rgb_bytes_have_one():
    bands = [("r", "uint8"), ("g", "int8"), ("b", "uint8"), ("ice", "float32")]
    styles = spec(*bands, top='default_bands = ["r", "g", "b", "ice"]').styles
    assert [style.name for style in styles] == ["rgb", "r", "g", "b", "ice"]
    assert styles[0].rescale == ((0, 255), (-128, 127), (0, 255))
    assert styles[0].bands == ("r", "g", "b")
    assert styles[-1].rescale is None
    assert [style.name for style in spec(*bands).styles] == ["r"]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ('name = "a"\nbands = ["snow"]', "styles.a: there is no band 'snow'"),
        ('name = "a"\nbands = ["ice"]\nmask = "snow"', "styles.a: there is no band 'snow'"),
        ('name = "a"\nbands = ["ice"]\nresampling = "best"', "styles.a.resampling"),
        ('name = "a"\nbands = ["ice"]\ncolormap_name = "x"', "styles.a.colormap_name"),
        ('name = "a"\nbands = ["ice"]\nrescale = [[3, 2]]', "styles.a.rescale"),
        ('name = "a"\nbands = ["ice"]\ncolourmap = "x"', "styles.0.colourmap"),
        (
            'name = "a"\nbands = ["ice"]\n[[styles]]\nname = "a"\nbands = ["ice"]',
            "style names must be unique",
        ),
    ],
)
def test_a_wrong_style_of_a_file_is_refused_by_its_key(rest, said):
    with pytest.raises(ConfigurationError) as caught:
        spec(("ice", "uint8"), rest=f"[[styles]]\n{rest}\n")
    assert said in caught.value.detail


def test_range_is_of_the_style_or_of_the_same_bands_or_of_bytes():
    styles = "".join(
        f'[[styles]]\nname = "{name}"\nbands = ["{band}"]\n{more}\n'
        for name, band, more in (
            ("grey", "height", ""),
            ("tinted", "height", 'rescale = [[0, 9]]\ncolormap_name = "viridis"'),
            ("relief", "height", "hillshade = true"),
            ("mask", "mask", ""),
            ("error", "error", ""),
        )
    )
    lake = spec(("height", "float32"), ("mask", "uint8"), ("error", "float32"), rest=styles)
    known = {style.name: known_rescale(style, lake) for style in lake.styles}
    nine, byte = ((0, 9),), ((0, 255),)
    assert known == {"grey": nine, "tinted": nine, "relief": None, "mask": byte, "error": None}


def test_every_built_in_collection_has_self_sufficient_styles():
    for collection in read_collections(None).values():
        assert collection.styles
        for style in collection.styles:
            assert style.rescale is not None or not style.needs_rescale, (collection.id, style.name)
