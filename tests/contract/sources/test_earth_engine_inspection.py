"""Drafts of Earth Engine assets: conformance, and what documents say against what the stand-in holds."""

from __future__ import annotations

import math

import pytest

from icehouse_server.collections.draft_text import draft_text
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.drafts.draft import Inquiry
from icehouse_server.core.errors import SourceRefusedError
from icehouse_server.sources import create_source
from icehouse_server.sources.earthengine.inspection import create_inspector
from icehouse_server.testing.inspector_conformance import InspectorCase, InspectorConformance
from support.earthengine import world
from support.earthengine.rig import earthengine_context


@pytest.fixture
def context(earth_engine, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with earthengine_context(earth_engine) as made:
        yield made


@pytest.fixture
def look(context):
    async def run(address, **more):
        inspector = create_inspector(context)
        try:
            return await inspector.inspect(Inquiry(address=address, **more))
        finally:
            await inspector.close()

    return run


class TestEarthEngineInspector(InspectorConformance):
    @pytest.fixture
    def case(self, context):
        return InspectorCase(
            make=lambda: create_inspector(context),
            inquiry=Inquiry(address=world.SRTM),
            missing=world.MISSING,
            foreign=("https://example.org/collections/x", "./dems", "/data/x", "dems", "a/../b", ""),
            make_source=lambda spec: create_source(spec, context),
        )


async def test_an_image_is_drafted_on_its_own_grid(look):
    draft = await look(world.MIXED)
    grid = draft.grid
    assert (grid.crs, grid.resolution) == ("EPSG:3413", 30)
    assert grid.bounds == (-750_000, 2_610_000, -690_000, 2_670_000)
    assert draft.source == {"type": "earthengine", "image": world.MIXED}
    found = {band.name: (band.dtype, band.nodata) for band in draft.bands}
    assert found["landcover"] == ("uint8", None)
    assert found["change"] == ("int16", -32768)
    assert found["count"] == ("int32", -(2**31))
    assert found["flags"] == ("uint16", None)
    assert (found["elevation"][0], found["index"][0]) == ("float32", "float64")
    assert math.isnan(found["elevation"][1])
    said = {remark.where for remark in draft.remarks if remark.fill_in}
    assert said >= {"license", "attribution", "band:landcover", "band:flags"}


async def test_a_collection_of_dates_has_a_time_axis_and_a_composite(look):
    draft = await look(f"earthengine:{world.DATED}")
    assert draft.source == {"type": "earthengine", "collection": world.DATED, "composite": "mosaic"}
    assert draft.time["period"] == "monthly"
    spec = parse_collection(draft_text(draft), "new.toml")
    assert spec.time is not None
    assert spec.grid.crs == "EPSG:32633"
    assert [band.name for band in spec.bands] == ["B4", "B8", "SCL"]


async def test_tiles_of_one_date_are_one_mosaic(look):
    draft = await look(world.TCTREND["2024"])
    assert draft.time == {}
    assert draft.grid.resolution == world.TCTREND_STEP
    spec = parse_collection(draft_text(draft), "new.toml")
    assert spec.bbox[0] == pytest.approx(-180, abs=0.001)
    assert spec.bbox[3] == pytest.approx(84, abs=0.001)


@pytest.mark.parametrize("asset", [world.MISSING, world.FORBIDDEN])
async def test_assets_that_can_not_be_read(look, asset):
    with pytest.raises(SourceRefusedError, match=r"has no asset|does not let"):
        await look(asset)
