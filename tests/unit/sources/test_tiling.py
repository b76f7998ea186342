"""Tiles by arithmetic: the published names, and agreement with a plain look at every tile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.collections.loader import read_collections
from icehouse_server.core.grid import Window
from icehouse_server.demo import pgc
from icehouse_server.sources.stac.settings import parse_source

SPECS = read_collections(None)
TILINGS = {
    name: parse_source(spec).tiling.tiling() for name, spec in SPECS.items() if "tiling" in spec.source
}


def tiles_at(name, x, y, size=1):
    grid = SPECS[name].grid
    affine = grid.geobox.affine
    window = Window(
        row=int((y - affine.f) / affine.e), col=int((x - affine.c) / affine.a), height=size, width=size
    )
    return [tile.item for tile in TILINGS[name].tiles_under(grid, window)]


@pytest.mark.parametrize(
    ("name", "place", "item"),
    [
        ("arcticdem-32m", (-750_000, 2_650_000), "67_33_32m_v4.1"),
        ("arcticdem-10m", (-750_000, 2_650_000), "67_33_10m_v4.1"),
        ("arcticdem-2m", (-775_000, 2_625_000), "67_33_1_1_2m_v4.1"),
        ("arcticdem-2m", (-725_000, 2_625_000), "67_33_1_2_2m_v4.1"),
        ("arcticdem-2m", (-775_000, 2_675_000), "67_33_2_1_2m_v4.1"),
        ("arcticdem-32m", (-3_950_000, -3_350_000), "07_01_32m_v4.1"),
        ("arcticdem-32m", (3_350_000, 4_050_000), "81_74_32m_v4.1"),
        ("rema-32m", (-2_450_000, 1_350_000), "44_06_32m_v2.0"),
        ("rema-10m", (650_000, -2_450_000), "06_37_10m_v2.0"),
        ("rema-2m", (-1_875_000, -425_000), "26_12_2_1_2m_v2.0"),
        ("rema-32m", (-2_410_000, 3_198_000), "62_06_32m_v2.0"),  # South Georgia
    ],
)
def test_published_names(name, place, item):
    assert tiles_at(name, *place) == [item]


def test_buffers_overlap_and_ids_give_the_order():
    assert tiles_at("arcticdem-32m", -700_000, 2_700_000) == [
        "67_33_32m_v4.1", "67_34_32m_v4.1", "68_33_32m_v4.1", "68_34_32m_v4.1",
    ]  # fmt: skip
    assert tiles_at("arcticdem-2m", -700_000, 2_700_000) == [
        "67_33_2_2_2m_v4.1", "67_34_2_1_2m_v4.1", "68_33_1_2_2m_v4.1", "68_34_1_1_2m_v4.1",
    ]  # fmt: skip


def test_beyond_the_rows_and_columns_there_are_none():
    assert tiles_at("arcticdem-32m", -3_950_000, -3_450_000) == []
    assert tiles_at("arcticdem-32m", 3_450_000, 0) == []


@pytest.mark.parametrize("name", sorted(TILINGS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_it_finds_what_touches_and_nothing_else(name, data):
    """Against the bounds that the publisher's own arithmetic gives, tile by tile."""
    grid, tiling = SPECS[name].grid, TILINGS[name]
    resolution = int(grid.geobox.affine.a)
    height, width = (data.draw(st.integers(1, 12_000)) for _ in range(2))
    window = Window(
        row=data.draw(st.integers(0, grid.shape[0] - height)),
        col=data.draw(st.integers(0, grid.shape[1] - width)),
        height=height,
        width=width,
    )
    left, bottom, right, top = grid.geobox_of(window).boundingbox
    found = tiling.tiles_under(grid, window)
    assert [tile.item for tile in found] == sorted({tile.item for tile in found})
    touching = set()
    domain = pgc.DOMAINS[name.partition("-")[0]]
    rows, columns = (71, 71) if domain is pgc.REMA else (81, 74)
    for row in range(1 if domain is pgc.REMA else 7, rows + 1):
        for column in range(1, columns + 1):
            quarters = [(a, b) for a in (1, 2) for b in (1, 2)] if resolution == 2 else [None]
            for quarter in quarters:
                tile = pgc.Tile(domain=domain, resolution=resolution, row=row, column=column, quarter=quarter)
                west, south, east, north = tile.bounds
                if west < right and east > left and south < top and north > bottom:
                    touching.add(tile.item_id)
    assert {tile.item for tile in found} == touching
    for tile in found:
        place = pgc.tile_of_item(tile.item, domain.name)
        assert (tile.extent.height, tile.extent.width) == place.shape()
        assert grid.geobox_of(tile.extent).affine.almost_equals(place.affine())
