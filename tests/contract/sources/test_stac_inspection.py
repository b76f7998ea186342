"""Drafts of STAC collections: conformance, what documents and headers say, and where nothing is asked."""

from __future__ import annotations

import json

import pytest

from icehouse_server.collections.draft_text import draft_text
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.drafts.draft import GridWish, Inquiry
from icehouse_server.core.errors import BadParameterError, SourceRefusedError
from icehouse_server.sources import create_source
from icehouse_server.sources.stac.documents import parse_document
from icehouse_server.sources.stac.inspected_assets import found_assets
from icehouse_server.sources.stac.inspected_collection import collection_facts
from icehouse_server.sources.stac.inspection import StacInspector, _hosts
from icehouse_server.sources.stac.items import Item
from icehouse_server.sources.stac.settings import StacTable
from icehouse_server.testing.inspector_conformance import InspectorCase, InspectorConformance
from support import source_rig as rig

EARTH = "https://earth-search.aws.element84.com/v1/collections"
PGC = "https://stac.pgc.umn.edu/api/v1/collections"
TILE = GridWish(bbox=(150.5, 65.05, 150.6, 65.1))
"""Inside tile 67_33."""


@pytest.fixture
def context(earth_search):
    with rig.source_context(earth_search) as made:
        yield made


@pytest.fixture
def look():
    async def run(context, address, **more):
        inspector = StacInspector(context=context)
        try:
            return await inspector.inspect(Inquiry(address=address, **more))
        finally:
            await inspector.close()

    return run


class TestStacInspector(InspectorConformance):
    @pytest.fixture
    def case(self, context):
        return InspectorCase(
            make=lambda: StacInspector(context=context),
            inquiry=Inquiry(address=f"{EARTH}/sentinel-2-stack"),
            missing=f"{EARTH}/no-such-collection",
            foreign=("USGS/SRTMGL1_003", "./dems", "/data", "dems"),
            make_source=lambda spec: create_source(spec, context),
        )


async def test_scenes_of_one_place_become_a_composite_in_time(look, context):
    draft = await look(context, f"{EARTH}/sentinel-2-l2a")
    assert (draft.grid.crs, draft.grid.resolution) in {("EPSG:32632", 10), ("EPSG:32633", 10)}
    assert draft.time == {"start": "2015-06", "period": "monthly", "delay": "P10D"}
    assert draft.source["composite"] == {"rule": "first"}
    assert draft.source["asset_hosts"] == ("sentinel-cogs.s3.us-west-2.amazonaws.com",)
    assert draft.source["offset_applied"] == "earthsearch:boa_offset_applied"
    assert draft.default_bands == ("red", "green", "blue")
    bands = {band.name: band for band in draft.bands}
    assert (bands["red"].dtype, bands["red"].nodata, bands["red"].scale) == ("uint16", 0, 0.0001)
    assert bands["red"].source["asset"] == "red"
    assert (bands["red"].resampling, bands["scl"].resampling) == ("bilinear", "nearest")
    assert {remark.where for remark in draft.remarks if remark.fill_in} >= {
        "license",
        "time",
        "source.composite",
    }


async def test_a_mosaic_on_one_lattice_is_read_as_it_is(look, standins):
    with rig.source_context(standins) as context:
        draft = await look(context, f"{PGC}/arcticdem-mosaics-v4.1-32m/", wish=TILE)
        spec = parse_collection(draft_text(draft), "new.toml")
        await create_source(spec, context).close()
    assert "composite" not in spec.source
    assert spec.time is None
    assert spec.grid.crs == "EPSG:3413"
    assert (spec.grid.geobox.affine.a, (spec.grid.geobox.affine.c - 96) % 32) == (32, 0)
    assert spec.grid.shape[0] < 400
    dem = spec.band("dem")
    assert (dem.dtype.name, dem.nodata, dem.units, dem.resampling) == ("float32", -9999, "m", "bilinear")
    assert spec.band("count").resampling == "nearest"
    assert spec.default_bands == ("dem",)
    assert (spec.license, spec.attribution) == ("CC-BY-4.0", "maxar")
    assert spec.interval == ("2007-11-27T00:00:00Z", None)
    assert "hillshade" not in [band.name for band in spec.bands]
    assert spec.source["asset_hosts"] == ["pgc-opendata-dems.s3.us-west-2.amazonaws.com"]


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        (f"{EARTH}/none", SourceRefusedError, "has no collection 'none'"),
        ("https://earth-search.aws.element84.com/v9/collections/x", SourceRefusedError, "no STAC API at"),
        ("https://earth-search.aws.element84.com/v1", BadParameterError, "not the URL of a collection"),
        (
            "https://user:word@earth-search.aws.element84.com/v1/collections/x",
            BadParameterError,
            "credentials",
        ),
    ],
)
async def test_addresses_that_are_not_a_collection(look, context, address, kind, said):
    with pytest.raises(kind, match=said):
        await look(context, address)


async def test_a_box_in_which_nothing_lies(look, context):
    with pytest.raises(SourceRefusedError, match="no item of 'sentinel-2-stack' in --bbox"):
        await look(context, f"{EARTH}/sentinel-2-stack", wish=GridWish(bbox=(100.0, 0.0, 101.0, 1.0)))


# hosts come from the network


def item(href, **properties):
    document = {
        "type": "Feature", "id": "a", "properties": {"datetime": "2020-01-01T00:00:00Z", **properties},
        "assets": {"dem": {"href": href, "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip
    return Item(parse_document(json.dumps(document), "https://stac.example.org/v1/x"))


def hosts(href, context, *named):
    table = StacTable(api="https://stac.example.org/v1", collection="x", asset_hosts=named)
    return _hosts(found_assets([item(href)])[0], table, context)


@pytest.mark.parametrize(
    "href",
    [
        "http://data.example.org/a.tif",
        "https://127.0.0.1/a.tif",
        "https://[::1]/a.tif",
        "https://169.254.169.254/a.tif",
        "https://localhost/a.tif",
        "https://intranet/a.tif",
        "https://metadata.google.internal/a.tif",
        "https://data.example.org:8443/a.tif",
        "https://0x7f.1/a.tif",
    ],
)
def test_a_host_that_no_document_can_vouch_for(context, href):
    with pytest.raises(SourceRefusedError) as caught:
        hosts(href, context)
    assert "--asset-host" in caught.value.hint
    named = caught.value.hint.rpartition("--asset-host ")[2]
    assert hosts(href, context, named) == (named,)


@pytest.mark.parametrize(
    ("href", "found"),
    [
        ("https://data.example.org/a.tif", ("data.example.org",)),
        ("https://stac.example.org/a.tif", ()),
        ("a.tif", ()),
    ],
)
def test_hosts_that_are_written(context, href, found):
    assert hosts(href, context) == found


async def test_no_other_host_is_asked(look, fresh_standins):
    """A mirror leads to the API alone: the host of the files is not asked, wherever it lies."""
    only = {url: to.replace("127.0.0.1", "localhost") for url, to in fresh_standins.mirrors.items()}
    only = {url: to for url, to in only.items() if "stac" in url}
    with rig.source_context(fresh_standins, mirrors=only) as context:
        context.hosts.traffic.snapshot()
        draft_or_error = None
        try:
            draft_or_error = await look(
                context,
                f"{fresh_standins.open_stac_url.rstrip('/')}/collections/arcticdem-mosaics-v4.1-32m",
                wish=TILE,
            )
        except SourceRefusedError as error:
            draft_or_error = error
        assert isinstance(draft_or_error, SourceRefusedError)
        assert "--asset-host" in draft_or_error.hint
    assert not any(path.endswith(".tif") for _, path in fresh_standins.counters().by_path)


# documents as they are in the wild


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("extent", None), ("extent", []), ("extent", {"spatial": {"bbox": [["a", 1, 2, 3]]}}),
        ("extent", {"spatial": {"bbox": [[0, 0, 1]]}, "temporal": {"interval": "2020"}}),
        ("extent", {"temporal": {"interval": [["soon", {}]]}}),
        ("keywords", "dem"), ("keywords", [1, None, "dem"]), ("providers", {"name": "x"}),
        ("providers", [{"name": 1}, "x", {"roles": 3}]), ("license", ["CC0"]), ("links", [{"rel": "about"}]),
        ("links", [{"rel": "about", "href": "javascript:alert(1)"}]), ("title", 3), ("description", None),
        ("item_assets", 1), ("sci:citation", {}),
    ],
)  # fmt: skip
def test_a_malformed_part_is_a_missing_one(key, value):
    facts = collection_facts({"title": "T", key: value}, "name")
    assert facts.title in {"T", "name"}
    assert facts.bbox is None
    assert facts.interval == (None, None)
    assert facts.links == ()


def test_what_a_whole_document_says():
    facts = collection_facts(
        {
            "title": "Heights\nof all", "license": "CC-BY-4.0",
            "providers": [{"name": "Maker", "roles": ["producer"]}, {"name": "Host", "roles": ["host"]}],
            "extent": {
                "spatial": {"bbox": [[-180, -90, 0, 180, 90, 9]]},
                "temporal": {"interval": [["2020-01-01T00:00:00+01:00", None]]},
            },
            "links": [{"rel": "license", "href": "https://example.org/l"}, {"rel": "self", "href": "https://x.org/"}],
        },
        "name",
    )  # fmt: skip
    assert (facts.title, facts.license, facts.attribution) == ("Heights of all", "CC-BY-4.0", "Maker")
    assert facts.bbox == (-180, -90, 180, 90)
    assert facts.interval == ("2019-12-31T23:00:00Z", None)
    assert facts.links == (("license", "https://example.org/l"),)


@pytest.mark.parametrize("text", ["proprietary", "various", "see the web page", "CC BY 4.0"])
def test_licences_that_are_not_spdx(text):
    assert collection_facts({"license": text}, "name").license == "other"
