"""OGC API Coverages (draft of July 2026) and the STAC document, as their generic clients use them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jsonschema
import numpy as np
import odc.geo.xr  # noqa: F401 - the accessor `.odc`
import pystac
import pytest
import xarray as xr

from icehouse_server.demo.faults import Fault, Status

LEFT, TOP, SIZE = -712_064, 2_650_080, 96
RIGHT, BOTTOM = LEFT + SIZE * 32, TOP - SIZE * 32
NATIVE = {"bbox": f"{LEFT},{BOTTOM},{RIGHT},{TOP}", "bbox_crs": "EPSG:3413"}
LONLAT = "150,65,150.06,65.03"
SCHEMAS = Path(__file__).parents[2] / "support" / "schemas"
COVERAGE = "http://www.opengis.net/def/rel/ogc/1.0/coverage"


def ask(daemon, pairs, rest="coverage.npy"):
    return daemon.http.get(daemon.path(rest), params=pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        [("subset", f"E({LEFT}:{RIGHT}),N({BOTTOM}:{TOP})")],
        [("subset", f"E({LEFT}:{RIGHT})"), ("subset", f"N({BOTTOM}:{TOP})")],
        [("subset", f" n({BOTTOM} : {TOP}) , Easting({LEFT}:{RIGHT}) ")],
        [("subset", f"X({LEFT}:{RIGHT}),Y({BOTTOM}:{TOP})")],
    ],
)
def test_subset_of_a_projected_crs_equals_bbox(daemon, pairs):
    answer = ask(daemon, [*pairs, ("subset-crs", "EPSG:3413")])
    assert answer.status_code == 200, answer.text
    expected = daemon.get("coverage.npy", **NATIVE)
    assert answer.content == expected.content
    assert answer.headers["content-bbox"] == expected.headers["content-bbox"]
    assert answer.headers["etag"] == expected.headers["etag"]


@pytest.mark.parametrize(
    "text",
    ["Lon(150:150.06),Lat(65:65.03)", "lat(65:65.03),Longitude(150:150.06)"],
)
def test_subset_in_lon_lat_equals_bbox(daemon, text):
    assert ask(daemon, {"subset": text}).content == daemon.get("coverage.npy", bbox=LONLAT).content


def test_a_point_is_one_cell_and_the_value_there(daemon):
    answer = ask(daemon, {"subset": "Lon(150.03),Lat(65.01)"})
    values = np.load(io.BytesIO(answer.content)).squeeze()
    assert values.shape == ()
    point = daemon.get("point", lon="150.03", lat="65.01").json()
    assert float(values) == pytest.approx(point["values"]["dem"] if "values" in point else values)
    native = ask(daemon, {"subset": f"E({LEFT + 16}),N({TOP - 16})", "subset-crs": "EPSG:3413"})
    assert native.headers["content-bbox"] == f"{LEFT}.0,{TOP - 32}.0,{LEFT + 32}.0,{TOP}.0"
    row = ask(daemon, {"subset": f"E({LEFT}:{RIGHT}),N({TOP - 16})", "subset-crs": "EPSG:3413"})
    assert np.load(io.BytesIO(row.content)).shape[-2:] == (1, SIZE)


def test_a_star_is_the_end_of_the_axis(daemon):
    document = daemon.http.get("/collections/arcticdem-32m").json()
    west, south, _, _ = document["proj:bbox"]
    answer = ask(
        daemon,
        {"subset": f"E(*:{west + 64}),N(*:{south + 96})", "subset-crs": "EPSG:3413"},
        "plan",
    )
    window = answer.json()["window"]
    assert (window["col"], window["width"], window["height"]) == (0, 2, 3)


def test_beyond_the_poles_there_is_nothing(daemon):
    assert ask(daemon, {"subset": "Lat(91:95),Lon(0:1)"}).status_code == 204


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"subset": "E(10),N(10)"}, "not an axis of"),
        ({"subset": "Lat(65)", "subset-crs": "EPSG:3413"}, "not an axis of"),
        ({"subset": "h(3)"}, "'h' is not an axis"),
        ({"subset": "Lat(65:66),Lat(1:2)"}, "given twice"),
        ({"subset": "Lat(66:65),Lon(1:2)"}, "is above"),
        ({"subset": "Lat(65:66),Lon(1:2)", "bbox": LONLAT}, "not both"),
        ({"subset": "Lat(65),Lon(1)", "resolution": "100"}, "is a point"),
        ({"subset": "Lat(65),Lon(1:2)"}, "is a line"),
        ({"subset": "Lat(*),Lon(*)"}, "is not a place"),
        ({"subset": "Lat(a:b)"}, "is not 1 finite number"),
        ({"subset": 'Lat("65":"66")'}, "a number was expected"),
        ({"subset": "Lat(65:66"}, "is not a list of"),
        ({"subset": ""}, "is not a list of"),
        ({"subset": "Lat()"}, "neither a value nor"),
        ({"bbox": LONLAT, "subset-crs": "here"}, "is not a CRS code"),
        ({"subset": 'time("2020")'}, "has no time axis"),
        ({"exclude-properties": "mad", "bands": "dem"}, "not both"),
        ({"exclude-properties": "dem,mad,count,mindate,maxdate,datamask"}, "no band is left"),
        ({"bbox": "1,2,3,4,5"}, "4 or 6 wanted"),
        ({"bbox": "1,2,9,4,5,3"}, "minz 9.0 is above"),
    ],
)
def test_what_does_not_fit_is_named(daemon, query, said):
    answer = ask(daemon, query)
    assert answer.status_code == 400
    document = answer.json()
    assert document["kind"] == "bad-parameter"
    assert document["parameter"] in query
    assert said in document["detail"]


@pytest.mark.parametrize(
    "crs", [None, "OGC:CRS84h", "http://www.opengis.net/def/crs/OGC/0/CRS84h", "EPSG:4326"]
)
def test_six_numbers_have_heights(daemon, crs):
    box = "150,65,-100,150.06,65.03,9000"
    answer = ask(daemon, {"bbox": box, **({"bbox-crs": crs} if crs else {})})
    assert answer.content == daemon.get("coverage.npy", bbox=LONLAT).content


def test_excluded_bands_leave_all_others(daemon):
    plan = ask(daemon, {"bbox": LONLAT, "exclude-properties": "mad,count"}, "plan").json()
    assert plan["bands"] == ["dem", "mindate", "maxdate", "datamask"]
    every = ask(daemon, {"bbox": LONLAT, "exclude-properties": ""}, "plan").json()
    assert every["bands"] == ["dem", "mad", "count", "mindate", "maxdate", "datamask"]
    unknown = ask(daemon, {"bbox": LONLAT, "exclude-properties": "nope"}, "plan")
    assert unknown.json()["kind"] == "unknown-band"


@pytest.mark.parametrize(
    ("accept", "own", "media_type"),
    [
        ("application/vnd.cov+json", "application/prs.coverage+json", "application/vnd.cov+json"),
        ("application/zarr+zip", "application/vnd.zarr; version=3", "application/zarr+zip"),
    ],
)
def test_media_types_of_the_draft(daemon, accept, own, media_type):
    answer = daemon.get(headers={"accept": accept}, **NATIVE)
    assert answer.headers["content-type"] == media_type
    both = daemon.get(headers={"accept": f"{accept};q=0.5, {own.partition(';')[0]}"}, **NATIVE)
    assert both.headers["content-type"] == own
    assert both.content == answer.content


def test_coverage_links_lead_to_coverages(daemon):
    document = daemon.http.get("/collections/arcticdem-32m").json()
    found = [link for link in document["links"] if link["rel"] == COVERAGE]
    assert {link["type"] for link in found} >= {"application/prs.coverage+json", "application/x-netcdf"}
    for link in found:
        answer = daemon.http.get(link["href"], params={"bbox": LONLAT})
        assert (answer.status_code, answer.headers["content-type"]) == (200, link["type"])


def test_default_fields_and_extent_of_the_storage_crs(daemon):
    document = daemon.http.get("/collections/arcticdem-32m").json()
    assert document["defaultFields"] == ["dem"]
    assert document["extent"]["spatial"]["storageCrsBbox"] == [document["proj:bbox"]]


def test_limits_are_in_the_service_metadata(daemon):
    landing = daemon.http.get("/", headers={"accept": "application/json"}).json()
    (link,) = [link for link in landing["links"] if link["rel"] == "service-meta"]
    limits = daemon.http.get(link["href"]).json()["info"]["x-OGC-limits"]["coverage"]
    assert limits == {"maxCells": 64 * 1024**2, "maxCellsPerDimension": 1_000_000}
    width = {"bbox": LONLAT, "width": str(limits["maxCellsPerDimension"] + 1)}
    assert ask(daemon, width).status_code == 400


def test_some_chunks_cached_is_a_partial_hit(daemon, place):
    daemon.get(**place.query())
    both = daemon.get(bands="dem,mad", **place.query())
    assert both.headers["cache-status"] == "icehouse; fwd=partial; stored"
    assert daemon.get(bands="dem,mad", **place.query()).headers["cache-status"] == "icehouse; hit"


def test_a_partial_hit_with_holes(daemon, place, fresh_standins):
    daemon.get(**place.query())
    fresh_standins.faults([Fault(action=Status(status=404), path="*_mad.tif", times=None)])
    holed = daemon.get(bands="dem,mad", fail_on_error="false", **place.query())
    assert holed.headers["cache-status"] == "icehouse; fwd=partial; detail=incomplete"


def test_stac_clients_open_the_data_by_its_assets(daemon):
    collection = pystac.Collection.from_file(f"{daemon.url}/collections/arcticdem-32m")
    schema = json.loads((SCHEMAS / "stac-zarr-1.1.0.json").read_text())
    jsonschema.validate(collection.to_dict(include_self_link=False), schema)
    (asset, *_) = (
        asset for asset in collection.assets.values() if asset.extra_fields.get("zarr:node_type") == "group"
    )
    cube = xr.open_dataset(
        asset.href,
        engine="zarr",
        consolidated=asset.extra_fields["zarr:consolidated"],
        zarr_format=asset.extra_fields["zarr:zarr_format"],
    )
    values = cube.dem.isel(x=slice(102_750, 102_760), y=slice(45_312, 45_318)).values
    assert values.shape == (6, 10)
    assert cube.odc.crs.epsg == 3413
    tiles = daemon.http.get(collection.assets["tiles"].href).json()
    assert tiles["tiles"]
    small = daemon.http.get(collection.assets["geotiff"].href, params={"bbox": LONLAT})
    assert small.headers["content-type"] == collection.assets["geotiff"].media_type
