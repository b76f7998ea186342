"""Entity tags of tiles: another one whenever the picture may be another."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from icehouse_server.core.limits import Limits
from icehouse_server.core.tile_matrix_sets import tile_at
from icehouse_server.service import TileAsk, TileService, TileSettings
from icehouse_server.store import Index
from icehouse_server.testing.fakes import tiny_spec

SPEC = tiny_spec()


def tag(spec=SPEC, generation="a-0", **more):
    store = SimpleNamespace(index=Index(spec), generation=generation)
    coverages = SimpleNamespace(collection=lambda _: store, settings=SimpleNamespace(limits=Limits()))
    place = tile_at("EPSG3413Quad", 10, 511, 511)
    ask = TileAsk(spec=spec, place=place, style=spec.styles[0], time=None, format="png")
    return TileService(coverages, TileSettings(), pool=None).plan(replace(ask, **more)).tag


def resampled(method):
    """The collection after its file was given another method; its styles name none."""
    dem, *others = SPEC.bands
    return replace(SPEC, bands=(replace(dem, resampling=method), *others))


def test_the_same_tile_has_the_same_tag():
    assert tag() == tag(resampled("bilinear"))


@pytest.mark.parametrize(
    "other",
    [
        {"spec": resampled("cubic")},
        {"generation": "a-1"},
        {"style": replace(SPEC.styles[0], rescale=((0, 1),))},
        {"format": "webp"},
        {"place": tile_at("EPSG3413Quad", 10, 511, 510)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_picture_has_another_tag(other):
    assert tag(**other) != tag()
