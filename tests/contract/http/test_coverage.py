"""`/coverage`, `/plan`, `/point`: regions, headers, caching, faults, snapshots."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import odc.geo.xr  # noqa: F401 - the accessor `.odc`
import pytest
import rasterio
import rasterio.features
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile
from rasterio.warp import transform_geom

from icehouse_server.demo.faults import Fault, Status
from icehouse_server.demo.standins import StandIns

LONLAT = "150,65,150.06,65.03"
LEFT, TOP, SIZE = -712_064, 2_650_080, 96
"""A window on the lattice in tile 67_33, away from its border."""
NATIVE = {"bbox": f"{LEFT},{TOP - SIZE * 32},{LEFT + SIZE * 32},{TOP}", "bbox_crs": "EPSG:3413"}
AFFINE = Affine(32, 0, LEFT, 0, -32, TOP)
GEOBOX = {"proj:code": "EPSG:3413", "proj:transform": list(AFFINE)[:6], "proj:shape": [SIZE, SIZE]}


def truth(band="dem", affine=AFFINE, shape=(SIZE, SIZE)):
    return StandIns.truth("arcticdem", "32m", band, affine, shape)[0]


def open_netcdf(content, engine):
    with xr.open_dataset(io.BytesIO(content), engine=engine, mask_and_scale=False, decode_coords="all") as ds:
        return ds.load()


def read_tif(content, band=1):
    with MemoryFile(content) as file, file.open() as dataset:
        return dataset.read(band), dataset.profile, dataset.tags()


@pytest.mark.parametrize(
    "crs",
    [
        "EPSG:3413",
        "epsg:3413",
        "[EPSG:3413]",
        "http://www.opengis.net/def/crs/EPSG/0/3413",
        "https://www.opengis.net/def/crs/EPSG/0/3413",
        "urn:ogc:def:crs:EPSG::3413",
    ],
)
def test_every_way_to_write_a_crs(daemon, crs):
    answer = daemon.get("coverage.tif", bbox=NATIVE["bbox"], bbox_crs=crs, crs=crs)
    np.testing.assert_array_equal(read_tif(answer.content)[0], truth())
    assert answer.headers["content-crs"] == "<http://www.opengis.net/def/crs/EPSG/0/3413>"
    assert answer.headers["content-bbox"] == ",".join(f"{float(n)!r}" for n in NATIVE["bbox"].split(","))


@pytest.mark.parametrize(
    "crs",
    ["CRS84", "OGC:CRS84", "[OGC:CRS84]", "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "EPSG:4326"],
)
def test_lon_lat_is_x_y_in_every_spelling(daemon, crs):
    answer = daemon.get("coverage.npy", bbox=LONLAT, bbox_crs=crs)
    assert answer.content == daemon.get("coverage.npy", bbox=LONLAT).content


def test_a_lon_lat_bbox_is_covered_and_snapped_outward(daemon):
    _, profile, _ = read_tif(daemon.get("coverage.tif", bbox=LONLAT).content)
    left, bottom, right, top = rasterio.transform.array_bounds(
        profile["height"], profile["width"], profile["transform"]
    )
    corners = rasterio.warp.transform_bounds("EPSG:4326", "EPSG:3413", 150, 65, 150.06, 65.03, densify_pts=99)
    assert (left + 4_000_096) % 32 == 0
    assert (top - 4_100_096) % 32 == 0
    for outer, inner in (
        (-left, -corners[0]),
        (-bottom, -corners[1]),
        (right, corners[2]),
        (top, corners[3]),
    ):
        assert -0.01 <= outer - inner <= 32.01


def test_width_and_height(daemon):
    answer = daemon.get("coverage.tif", bbox=LONLAT, crs="EPSG:4326", width="30", height="20")
    _, profile, _ = read_tif(answer.content)
    assert (profile["width"], profile["height"]) == (30, 20)
    assert profile["transform"].almost_equals(Affine(0.06 / 30, 0, 150, 0, -0.03 / 20, 65.03), 1e-12)
    assert [float(n) for n in answer.headers["content-bbox"].split(",")] == pytest.approx(
        [150, 65, 150.06, 65.03], abs=1e-12
    )


@pytest.mark.parametrize(
    ("size", "shape"), [({"width": "60"}, (30, 60)), ({"height": "30"}, (30, 60)), ({"width": "1"}, (1, 1))]
)
def test_one_side_alone_gives_squares(daemon, size, shape):
    _, profile, _ = read_tif(daemon.get("coverage.tif", bbox=LONLAT, crs="EPSG:4326", **size).content)
    assert (profile["height"], profile["width"]) == shape


@pytest.mark.parametrize(("crs", "resolution"), [("EPSG:32655", "100"), ("EPSG:3413", "50")])
def test_resolution_snaps_as_odc_does(daemon, crs, resolution):
    """The anchor is the edge: pixel edges are multiples of the resolution."""
    answer = daemon.get("coverage.tif", bbox=LONLAT, crs=crs, resolution=resolution)
    _, profile, _ = read_tif(answer.content)
    bounds = rasterio.warp.transform_bounds("EPSG:4326", crs, 150, 65, 150.06, 65.03, densify_pts=999)
    expected = GeoBox.from_bbox(bounds, crs=crs, resolution=float(resolution), tight=False, anchor="edge")
    assert profile["transform"] == expected.affine
    assert (profile["height"], profile["width"]) == expected.shape


def test_two_resolutions(daemon):
    answer = daemon.get("coverage.tif", bbox=LONLAT, crs="EPSG:4326", resolution="0.002,0.001")
    _, profile, _ = read_tif(answer.content)
    assert (profile["height"], profile["width"]) == (30, 30)


def test_bands_and_their_alias(daemon):
    by_bands = daemon.get("coverage.nc", bands="count,dem", **NATIVE)
    assert daemon.get("coverage.nc", properties="count,dem", **NATIVE).content == by_bands.content
    ds = open_netcdf(by_bands.content, "h5netcdf")
    assert list(ds.data_vars) == ["count", "dem"]
    assert ds["count"].dtype == np.uint8
    np.testing.assert_array_equal(ds["count"].values, truth("count"))
    np.testing.assert_array_equal(ds["dem"].values, truth())


def test_resampling_names(daemon):
    answers = {
        name: np.load(
            io.BytesIO(daemon.get("coverage.npy", width="20", height="20", resampling=name, **NATIVE).content)
        )
        for name in (
            "nearest",
            "bilinear",
            "cubic",
            "average",
            "mode",
            "max",
            "min",
            "med",
            "q1",
            "q3",
            "rms",
        )
    }
    assert (answers["min"] <= answers["average"]).all()
    assert (answers["average"] <= answers["max"]).all()
    assert not np.array_equal(answers["nearest"], answers["bilinear"])
    default = np.load(io.BytesIO(daemon.get("coverage.npy", width="20", height="20", **NATIVE).content))
    np.testing.assert_array_equal(default, answers["bilinear"])


def test_across_the_antimeridian(daemon):
    answer = daemon.get(
        "coverage.tif", bbox="179.9,70.95,-179.9,71.05", crs="EPSG:4326", width="80", height="40"
    )
    values, profile, _ = read_tif(answer.content)
    assert profile["transform"].c == 179.9
    assert [float(n) for n in answer.headers["content-bbox"].split(",")] == pytest.approx(
        [179.9, 70.95, 180.1, 71.05]
    )
    parts = [
        read_tif(daemon.get("coverage.tif", bbox=bbox, crs="EPSG:4326", width="40", height="40").content)[0]
        for bbox in ("179.9,70.95,180,71.05", "-180,70.95,-179.9,71.05")
    ]
    together = np.concatenate(parts, axis=1)
    assert (values != -9999).mean() > 0.5
    np.testing.assert_allclose(values, together, atol=3)
    native = daemon.get("coverage.tif", bbox="179.9,70.95,-179.9,71.05")
    assert native.status_code == 200
    assert read_tif(native.content)[1]["width"] < 1000


@pytest.mark.parametrize("bbox", ["10,0,11,1", "-70,-66,-69,-65"])
def test_outside_is_no_content(daemon, bbox):
    for answer in (
        daemon.get(bbox=bbox),
        daemon.get(bbox=bbox, width="9"),
        daemon.get("coverage.tif", bbox=bbox),
    ):
        assert answer.status_code == 204
        assert answer.content == b""
    assert daemon.get("point", lon="10", lat="0").status_code == 204


def test_unknown_collection(daemon):
    answer = daemon.http.get("/collections/nope/coverage", params={"bbox": LONLAT})
    assert answer.status_code == 404
    assert answer.json()["kind"] == "unknown-collection"
    assert "arcticdem-32m" in answer.json()["hint"]


def test_miss_then_hit(daemon, fresh_standins, place):
    cold = daemon.get(**place.query())
    assert cold.headers["cache-status"] == "icehouse; fwd=miss; stored"
    assert fresh_standins.cogs_counters().requests > 0
    fresh_standins.reset()
    warm = daemon.get(**place.query())
    assert warm.headers["cache-status"] == "icehouse; hit"
    assert warm.content == cold.content
    assert fresh_standins.counters().requests == 0
    for answer, stages in (
        (cold, {"plan", "queue", "fetch", "read", "encode"}),
        (warm, {"plan", "read", "encode"}),
    ):
        timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
        assert timing.keys() >= stages
        assert all(float(ms) >= 0 for ms in timing.values())
    assert "fetch" not in warm.headers["server-timing"]


def test_requests_at_once_collapse_into_one_fetch(daemon, fresh_standins, place):
    daemon.get(**daemon.place().query())  # so that the item document and the file's header are known
    fresh_standins.shape(latency=0.3)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: daemon.get(**place.query()), range(6)))
    assert len({answer.content for answer in answers}) == 1
    statuses = sorted(answer.headers["cache-status"] for answer in answers)
    assert statuses.count("icehouse; fwd=miss; stored") == 1
    assert set(statuses) <= {
        "icehouse; fwd=miss; stored", "icehouse; fwd=miss; collapsed", "icehouse; hit"
    }  # fmt: skip
    assert "icehouse; fwd=miss; collapsed" in statuses
    ranges = [(path, text) for path, many in fresh_standins.cogs_counters().ranges.items() for text in many]
    assert len(ranges) == len(set(ranges))


def test_a_new_snapshot_is_a_new_etag(daemon, place):
    before = daemon.get("coverage.tif", **NATIVE).headers
    daemon.get(**place.query())
    after = daemon.get("coverage.tif", **NATIVE).headers
    assert before["icehouse-snapshot"] != after["icehouse-snapshot"]
    assert before["etag"] != after["etag"]


def test_only_if_cached(daemon, fresh_standins, place):
    headers = {"cache-control": "max-age=0, only-if-cached"}
    answer = daemon.get(headers=headers, **place.query())
    assert answer.status_code == 504
    assert answer.json()["kind"] == "not-cached"
    assert fresh_standins.counters().requests == 0
    daemon.get(**place.query())
    assert daemon.get(headers=headers, **place.query()).status_code == 200


@pytest.fixture
def spoilt(fresh_standins, place):
    """A place whose band mad can't be fetched, while dem can."""
    fresh_standins.faults([Fault(action=Status(status=404), path="*_mad.tif", times=None)])
    return place


def test_a_failure_names_chunks_and_leaves_the_rest(daemon, spoilt):
    answer = daemon.get(bands="dem,mad", **spoilt.query())
    assert answer.status_code == 502
    document = answer.json()
    assert (document["kind"], document["failed"]) == ("chunks-failed", 1)
    assert document["chunks"][0]["chunk"] == f"mad/c/{spoilt.row}/{spoilt.col}"
    assert document["chunks"][0]["kind"] == "source-refused"
    assert "fail_on_error=false" in document["hint"]
    again = daemon.get(bands="dem", headers={"cache-control": "only-if-cached"}, **spoilt.query())
    assert again.status_code == 200


def test_fail_on_error_false(daemon, spoilt):
    answer = daemon.get("coverage.nc", bands="dem,mad", fail_on_error="false", **spoilt.query())
    assert answer.status_code == 200
    chunk = f"mad/c/{spoilt.row}/{spoilt.col}"
    assert answer.headers["icehouse-failed-chunks"] == "1"
    assert answer.headers["icehouse-failed-list"] == f"{chunk};kind=source-refused"
    assert answer.headers["cache-control"] == "no-store"
    assert "stored" not in answer.headers["cache-status"]
    assert "etag" not in answer.headers
    ds = open_netcdf(answer.content, "h5netcdf")
    assert ds.attrs["icehouse_failed_chunks"] == chunk
    assert (ds.mad.values == -9999).all()
    affine = Affine(32, 0, spoilt.left + 3200, 0, -32, spoilt.top - 3200)
    np.testing.assert_array_equal(ds.dem.values, truth("dem", affine, (64, 64)))


def test_a_past_snapshot(daemon, fresh_standins, place):
    daemon.get("coverage.tif", **NATIVE)
    past = daemon.get("coverage.tif", **NATIVE).headers["icehouse-snapshot"]
    assert daemon.get(**place.query()).status_code == 200
    fresh_standins.reset()
    read = daemon.get("coverage.tif", snapshot=past, **NATIVE)
    assert read.headers["icehouse-snapshot"] == past
    np.testing.assert_array_equal(read_tif(read.content)[0], truth())
    lacking = daemon.get(snapshot=past, **place.query())
    assert (lacking.status_code, lacking.json()["kind"]) == (504, "not-cached")
    partly = daemon.get("coverage.tif", snapshot=past, fail_on_error="false", **place.query())
    assert partly.headers["icehouse-failed-chunks"] == "1"
    assert (read_tif(partly.content)[0] == -9999).all()
    for snapshot, absent in ((past, 1), (None, 0)):
        query = place.query() | ({"snapshot": snapshot} if snapshot else {})
        plan = daemon.get("plan", **query).json()
        assert plan["chunks"]["absent"] == absent
        assert plan["estimated_source_bytes"] == 0
    assert fresh_standins.counters().requests == 0


def test_plan_before_and_after(daemon, fresh_standins, place):
    expected = {"needed": 1, "present": 0, "absent": 1, "void": 0}
    for plan in (daemon.get("plan", **place.query()).json(), daemon.post("plan", place.body()).json()):
        assert plan["chunks"] == expected
        assert plan["bands"] == ["dem"]
        assert plan["window"] == {
            "row": place.row * 256 + 100, "col": place.col * 256 + 100, "height": 64, "width": 64
        }  # fmt: skip
        assert plan["aligned"] is True
        assert plan["estimated_source_bytes"] == 256 * 256 * 4
        assert plan["output_bytes"] == 64 * 64 * 4
    assert fresh_standins.counters().requests == 0
    assert daemon.get(**place.query()).status_code == 200
    after = daemon.get("plan", **place.query()).json()
    assert after["chunks"] == {**expected, "present": 1, "absent": 0, "void": after["chunks"]["void"]}
    assert after["estimated_source_bytes"] == 0


def test_plan_knows_void(daemon):
    ocean = {"bbox": "-850000,2750000,-848000,2752000", "bbox_crs": "EPSG:3413"}
    assert daemon.get(**ocean).status_code == 200
    plan = daemon.get("plan", **ocean).json()
    assert plan["chunks"] == {"needed": 1, "present": 1, "absent": 0, "void": 1}


def test_plan_outside(daemon):
    assert daemon.get("plan", bbox="10,0,11,1").status_code == 204
    plan = daemon.post("plan", {**GEOBOX, "proj:transform": [32, 0, 9e6, 0, -32, 9e6]}).json()
    assert (plan["window"], plan["chunks"]["needed"]) == (None, 0)


WKT = rasterio.crs.CRS.from_string("+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-40 +datum=WGS84").to_wkt(
    version="WKT2_2019"
)


@pytest.mark.parametrize(
    "geobox",
    [
        GEOBOX,
        {**GEOBOX, "proj:transform": [*AFFINE]},
        {**GEOBOX, "proj:transform": [28, 16, LEFT, 16, -28, TOP], "proj:shape": [30, 40]},
        {**GEOBOX, "proj:transform": [32, 0, LEFT, 0, 32, TOP - 3200]},
        {"proj:wkt2": WKT, "proj:transform": [50, 0, -480_000, 0, -50, 2_700_000], "proj:shape": [20, 30]},
        {"proj:code": "EPSG:4326", "proj:transform": [0.001, 0, 150, 0, -0.001, 65], "proj:shape": [9, 7]},
    ],
    ids=["code", "nine", "rotated", "south-up", "wkt2", "lonlat"],
)
def test_the_geobox_asked_for_is_the_geobox_returned(daemon, geobox):
    answer = daemon.http.post(daemon.path("coverage"), json=geobox, params={"f": "geotiff"})
    assert answer.status_code == 200, answer.text
    _, profile, _ = read_tif(answer.content)
    assert profile["transform"] == Affine(*geobox["proj:transform"][:6])
    assert [profile["height"], profile["width"]] == geobox["proj:shape"]
    wanted = geobox.get("proj:code") or geobox["proj:wkt2"]
    assert profile["crs"] == rasterio.crs.CRS.from_user_input(wanted)
    assert "content-bbox" in answer.headers
    assert ("content-crs" in answer.headers) == ("proj:code" in geobox)


POLYGON = {
    "type": "Polygon",
    "coordinates": [[[150.0, 65.0], [150.06, 65.005], [150.03, 65.03], [150.0, 65.0]]],
}
TWO = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[150.0, 65.0], [150.02, 65.0], [150.02, 65.01], [150.0, 65.0]]],
        [[[150.04, 65.02], [150.06, 65.02], [150.06, 65.03], [150.04, 65.02]]],
    ],
}


@pytest.mark.parametrize(
    "geometry",
    [POLYGON, TWO, {"type": "Feature", "properties": {}, "geometry": POLYGON}],
    ids=lambda geometry: geometry["type"],
)
def test_clip(daemon, geometry):
    answer = daemon.http.post(daemon.path("coverage"), json={"geometry": geometry}, params={"f": "geotiff"})
    values, profile, _ = read_tif(answer.content)
    shape = values.shape
    inner = geometry.get("geometry", geometry)
    inside = rasterio.features.geometry_mask(
        [transform_geom("EPSG:4326", "EPSG:3413", shapely.segmentize(shapely.geometry.shape(inner), 1e-4))],
        shape,
        profile["transform"],
        invert=True,
    )
    expected = np.where(inside, truth("dem", profile["transform"], shape), np.float32(-9999))
    np.testing.assert_array_equal(values, expected)
    assert 0.05 < inside.mean() < 0.9


def test_clip_of_an_exact_geobox_and_of_a_resolution(daemon):
    ring = [[LEFT, TOP], [LEFT + 3000, TOP - 500], [LEFT + 1000, TOP - 3000], [LEFT, TOP]]
    polygon = transform_geom("EPSG:3413", "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})
    body = {**GEOBOX, "geometry": polygon}
    answer = daemon.http.post(daemon.path("coverage"), json=body, params={"f": "geotiff"})
    values, profile, _ = read_tif(answer.content)
    assert profile["transform"] == AFFINE
    assert 0 < (values != -9999).mean() < 1
    body = {"geometry": POLYGON, "crs": "EPSG:32655", "resolution": 100}
    _, profile, _ = read_tif(
        daemon.http.post(daemon.path("coverage"), json=body, params={"f": "geotiff"}).content
    )
    assert (profile["transform"].a, profile["crs"].to_epsg()) == (100, 32655)


def test_point(daemon):
    x, y = LEFT + 5 * 32 + 1, TOP - 7 * 32 - 31
    expected = {"dem": truth()[7, 5].item(), "count": truth("count")[7, 5].item()}
    by_xy = daemon.get("point", x=x, y=y, bands="dem,count").json()
    assert by_xy == {"coordinates": [x, y], "crs": "EPSG:3413", "values": expected, "datetime": None}
    (lon,), (lat,) = rasterio.warp.transform("EPSG:3413", "EPSG:4326", [LEFT + 176], [TOP - 240])
    by_lonlat = daemon.get("point", lon=lon, lat=lat, bands="dem,count").json()
    assert by_lonlat == {"coordinates": [lon, lat], "crs": "EPSG:4326", "values": expected, "datetime": None}


def test_point_without_a_value_is_null(daemon):
    assert daemon.get("point", x="-849000", y="2751000").json()["values"] == {"dem": None}


def test_many_points(daemon):
    points = [[LEFT + 16 + 32 * n, TOP - 16] for n in range(40)] + [[9e6, 9e6], [-849_000, 2_751_000]]
    found = daemon.post("point", {"points": points, "crs": "EPSG:3413"}).json()["points"]
    assert [entry["coordinates"] for entry in found] == points
    assert [entry["values"]["dem"] for entry in found[:40]] == truth()[0, :40].tolist()
    assert found[40]["values"] is None
    assert found[41]["values"] == {"dem": None}
