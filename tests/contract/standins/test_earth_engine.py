"""The stand-in for Earth Engine over sockets, through the unmodified `ee` package."""

from __future__ import annotations

import asyncio
import datetime as dt
import json

import ee
import ee.deprecation
import google.oauth2.credentials
import httpx
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.demo import faults as f
from support.earthengine import pixels, world
from support.earthengine.pixels import Rules
from support.earthengine.standin import ALGORITHMS, COMPUTE_PIXELS, EarthEngineStandIn
from support.earthengine.truth import images, truth

TREND = world.TCTREND["2024"]
STEP = world.TCTREND_STEP
CLOUDS = frozenset({3, 8, 9})


def lattice(step, x, y, rows, cols, crs="EPSG:4326", asset_step=None):
    """A grid whose corners are multiples of a step; x and y are rounded to it."""
    unit = asset_step or step
    left, top = (np.floor(place / unit) * unit for place in (x, y))
    return GeoBox((rows, cols), Affine(step, 0, left, 0, -step, top), crs)


SEAM = lattice(STEP, -180, 60.9, 40, 50)
BEYOND = lattice(STEP, 179.995, 60.9, 20, 50)
OVERLAP = lattice(STEP, -150.3, 71.01, 80, 300)
OCEAN = lattice(STEP, 4.99, 73, 30, 60)
POLAR = lattice(30.0, -720_000, 2_640_000, 90, 150, "EPSG:3413")
OBLIQUE = lattice(0.001, 149.95, 65.03, 60, 70)
SCENE = lattice(10.0, 499_700, 8_612_000, 90, 300, "EPSG:32633")
ZONES = lattice(world.EMBEDDING_STEP, 17.9996, 70, 20, 24)


@pytest.fixture(scope="module")
def initialized(earth_engine):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        # Filled, it keeps the package from asking a server of Google's.
        patch.setattr(ee.deprecation, "deprecated_assets", {"none": None})
        initialize(earth_engine)
        yield
        ee.Reset()


@pytest.fixture(autouse=True)
def without_retries(initialized, fresh_earth_engine):  # noqa: ARG001 - in this order
    ee.data.setMaxRetries(0)


@pytest.fixture
def anew(without_retries, fresh_earth_engine):  # noqa: ARG001 - in this order
    """For tests that initialize the package themselves."""
    ee.Reset()
    yield fresh_earth_engine
    fresh_earth_engine.reset()
    ee.Reset()
    initialize(fresh_earth_engine)


def initialize(standin, credentials=None):
    ee.Initialize(credentials=credentials, project="any-project", url=standin.url)


def request(expression, geobox, bands=None, **grid):
    affine, (rows, cols) = geobox.affine, geobox.shape
    transform = {
        "scaleX": affine.a, "shearX": affine.b, "translateX": affine.c,
        "shearY": affine.d, "scaleY": affine.e, "translateY": affine.f,
    }  # fmt: skip
    return {
        "expression": expression,
        "fileFormat": "NUMPY_NDARRAY",
        "grid": {
            "dimensions": {"width": cols, "height": rows},
            "affineTransform": transform,
            "crsCode": f"EPSG:{geobox.crs.epsg}",
            **grid,
        },
        **({} if bands is None else {"bandIds": bands}),
    }


def compute(expression, geobox, bands=None, **grid):
    return ee.data.computePixels(request(expression, geobox, bands, **grid))


def small(geobox=None):
    return compute(ee.Image(world.MIXED).select("landcover"), geobox or POLAR)


def utc(*moment):
    return dt.datetime(*moment, tzinfo=dt.UTC)


def test_initialisation_takes_three_requests(anew):
    initialize(anew)
    counts = {path: number for (_, path), (number, _) in anew.counters().by_path.items()}
    assert counts == {"/$discovery/rest": 2, "/v1/projects/any-project/algorithms": 1}


@pytest.mark.parametrize("geobox", [SEAM, BEYOND, OVERLAP, OCEAN], ids=["seam", "beyond", "overlap", "ocean"])
def test_a_mosaic_of_trends(geobox):
    got = compute(ee.ImageCollection(TREND).mosaic(), geobox)
    assert got.dtype.names == ("TCB_slope", "TCG_slope", "TCW_slope")
    for name in got.dtype.names:
        expected, valid = truth(TREND, name, geobox)
        assert got[name].dtype == expected.dtype == np.uint8
        np.testing.assert_array_equal(got[name], expected)
        assert valid.any()
    assert len({got[name].tobytes() for name in got.dtype.names}) == 3


def test_last_image_is_on_top_and_its_holes_show_the_others():
    (below, _), (above, holes) = images(TREND, "TCB_slope", OVERLAP)
    got = compute(ee.ImageCollection(TREND).mosaic(), OVERLAP, ["TCB_slope"])["TCB_slope"]
    both = (below != above) & holes
    assert both.any()
    np.testing.assert_array_equal(got[both], above[both])
    pierced = ~holes & truth(TREND, "TCB_slope", OVERLAP)[1]
    assert pierced.any()
    np.testing.assert_array_equal(got[pierced], below[pierced])


def test_one_image_of_a_collection():
    name = f"{TREND}/tile_01"
    got = compute(ee.Image(name), OVERLAP, ["TCW_slope"])["TCW_slope"]
    np.testing.assert_array_equal(got, truth(name, "TCW_slope", OVERLAP)[0])


@pytest.mark.parametrize("geobox", [POLAR, OBLIQUE], ids=["own grid", "warped"])
def test_an_image_of_six_dtypes(geobox):
    got = compute(ee.Image(world.MIXED), geobox)
    for band in world.find(world.MIXED).bands:
        expected, valid = truth(world.MIXED, band.name, geobox)
        assert got[band.name].dtype == band.type.dtype
        np.testing.assert_array_equal(got[band.name], expected)
        assert 0 < valid.sum() < valid.size


def test_embeddings_of_a_year_across_two_zones():
    year = ee.ImageCollection(world.EMBEDDINGS).filterDate("2020-01-01", "2021-01-01").mosaic()
    got = compute(year, ZONES)
    interval = utc(2020, 1, 1), utc(2021, 1, 1)
    for name in ("A00", "A31", "A63"):
        expected, _ = truth(world.EMBEDDINGS, name, ZONES, interval=interval)
        assert got[name].dtype == np.float64
        np.testing.assert_array_equal(got[name], expected)
        assert (expected != truth(world.EMBEDDINGS, name, ZONES)[0]).mean() > 0.9
    assert len(got.dtype.names) == 64
    length = np.sqrt(sum(got[name] ** 2 for name in got.dtype.names))
    np.testing.assert_allclose(length, 1, rtol=1e-12)


def test_a_moment_stands_for_its_millisecond():
    collection = ee.ImageCollection(world.EMBEDDINGS)
    assert collection.filterDate(utc(2020, 1, 1)).size().getInfo() == 120
    assert collection.filterDate("2020-01-01T00:00:00.001").size().getInfo() == 0


@pytest.mark.parametrize("how", ["mosaic", "median", "mean", "min", "max", "first", "last"])
def test_composites_of_an_interval(how):
    interval = utc(2021, 6, 1), utc(2022, 1, 1)
    dates = ee.ImageCollection(world.DATED).filterDate(*interval)
    if how in {"first", "last"}:
        got = compute(dates.reduce(getattr(ee.Reducer, f"{how}NonNull")()), SCENE, [f"B4_{how}"])[f"B4_{how}"]
    else:
        got = compute(getattr(dates, how)(), SCENE, ["B4"])["B4"]
    expected, valid = truth(world.DATED, "B4", SCENE, interval=interval, how=how)
    assert got.dtype == (np.float64 if how in {"mean", "median"} else np.uint16)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert not valid.all()


def test_a_map_that_masks_by_a_band_scales_and_unmasks():
    def clear(image):
        classes = image.select("SCL")
        kept = classes.neq(3).And(classes.neq(8)).And(classes.neq(9))
        return image.select(["B4"], ["red"]).updateMask(kept).multiply(0.0001).toFloat()

    got = compute(ee.ImageCollection(world.DATED).map(clear).median().unmask(-9999, False), SCENE)
    expected, valid = truth(world.DATED, "B4", SCENE, how="median", hidden=("SCL", CLOUDS))
    assert not valid.all()
    assert got["red"].dtype == np.float32
    np.testing.assert_allclose(got["red"], np.where(valid, expected * 0.0001, -9999), rtol=1e-6)


@pytest.mark.parametrize("window", [(0, 0, 1, 1), (13, 7, 40, 60), (79, 299, 1, 1), (30, 100, 50, 120)])
def test_a_part_of_a_request_gives_the_same_pixels(window):
    row, col, rows, cols = window
    image = ee.ImageCollection(TREND).mosaic()
    part = OVERLAP[row : row + rows, col : col + cols]
    np.testing.assert_array_equal(
        compute(image, part), compute(image, OVERLAP)[row : row + rows, col : col + cols]
    )


def test_strips_of_a_large_request_meet():
    large = lattice(30.0, -720_000, 2_640_000, 700, 800, "EPSG:3413")
    got = compute(ee.Image(world.MIXED).select("elevation"), large)["elevation"]
    np.testing.assert_array_equal(got, truth(world.MIXED, "elevation", large)[0])


def test_rows_from_the_south_without_shear_and_a_lower_case_code():
    affine = OVERLAP.affine
    rows, cols = OVERLAP.shape
    flipped = {"scaleX": STEP, "translateX": affine.c, "scaleY": STEP, "translateY": affine.f - rows * STEP}
    got = compute(ee.ImageCollection(TREND).mosaic(), OVERLAP, affineTransform=flipped, crsCode="epsg:4326")
    np.testing.assert_array_equal(got["TCB_slope"][::-1], truth(TREND, "TCB_slope", OVERLAP)[0])
    assert got.shape == (rows, cols)


def test_what_xee_asks_for():
    collection = ee.ImageCollection(ee.ImageCollection(TREND).mosaic())
    chosen = ee.ImageCollection(collection.toList(1, offset=0).slice(0, 1, 1))
    stacked = ee.Image(chosen.iterate(lambda x, acc: ee.Image(acc).addBands(x, ["TCG_slope"]), ee.Image()))
    image = stacked.select(stacked.bandNames().slice(1)).unmask(np.iinfo(np.int32).max, False)
    got = compute(image, OCEAN)["TCG_slope"]
    expected, valid = truth(TREND, "TCG_slope", OCEAN)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, np.where(valid, expected.astype(np.int32), np.iinfo(np.int32).max))
    coordinates = compute(ee.Image.pixelCoordinates(ee.Projection("epsg:4326")), OCEAN)
    np.testing.assert_allclose(coordinates["x"][0], OCEAN.coords["longitude"].values, rtol=1e-14)
    np.testing.assert_allclose(coordinates["y"][:, 0], OCEAN.coords["latitude"].values, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda image: image.unmask(0), "uint8"),
        (lambda image: image.unmask(-1), "int16"),
        (lambda image: image.unmask(256), "uint16"),
        (lambda image: image.unmask(0.5), "float64"),
        (lambda image: image.toFloat(), "float32"),
        (lambda image: image.int16(), "int16"),
        (lambda image: image.cast({"landcover": "double"}), "float64"),
        (lambda image: image.gt(3), "uint8"),
        (lambda image: image.bitwiseAnd(3), "uint8"),
        (lambda image: image.add(1), "uint16"),
        (lambda image: image.divide(2), "float64"),
        (lambda image: image.mask(), "float64"),
    ],
)
def test_the_dtype_of_a_result(make, dtype):
    got = compute(make(ee.Image(world.MIXED).select("landcover")), POLAR)
    assert got.dtype["landcover"] == np.dtype(dtype)


@pytest.mark.parametrize(("year", "expected"), [("2021", {0, 1}), ("1999", {0})])
def test_a_choice_leaves_the_other_branch_alone(year, expected):
    dates = ee.ImageCollection(world.DATED).filterDate(f"{year}-01-01", f"{year}-12-31").select("SCL")
    void = ee.Image.constant([0]).updateMask(0).rename("SCL")
    image = ee.Image(ee.Algorithms.If(dates.size(), dates.mosaic().select("SCL"), void))
    mask = compute(image.mask().gt(0).unmask(0, False), SCENE)["SCL"]
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == expected


def test_bands_are_replaced_in_their_place():
    image = ee.Image(world.MIXED)
    got = compute(image.addBands(image.select("change").multiply(2.0), overwrite=True), POLAR)
    assert got.dtype.names == compute(image, POLAR[:1, :1]).dtype.names
    assert got["change"].dtype == np.int32
    np.testing.assert_array_equal(got["change"], 2 * truth(world.MIXED, "change", POLAR)[0].astype(int))


def test_clip_and_arithmetic():
    image = ee.Image(world.MIXED).select(["count", "index"], ["a", "b"])
    clipped = image.clip(ee.Geometry.Rectangle([149.95, 64.99, 150, 65.02])).unmask(7, False)
    west, south, east, north = 149.95, 64.99, 150, 65.02
    x, y = OBLIQUE.coords["longitude"].values, OBLIQUE.coords["latitude"].values
    inside = ((x > west) & (x < east))[None, :] & ((y > south) & (y < north))[:, None]
    expected, valid = truth(world.MIXED, "count", OBLIQUE)
    got = compute(clipped, OBLIQUE)
    np.testing.assert_array_equal(got["a"], np.where(inside & valid, expected, 7))
    halves = compute(image.select("a").subtract(image.select("b")).divide(2), OBLIQUE)["a"]
    index, there = truth(world.MIXED, "index", OBLIQUE)
    np.testing.assert_allclose(halves, np.where(valid & there, (expected - index) / 2, 0), rtol=1e-12)


def test_filters_sorting_and_limits():
    dates = ee.ImageCollection(world.DATED)
    clouds = [37 * number % 100 for number in range(7)]
    assert dates.aggregate_array("CLOUDY_PIXEL_PERCENTAGE").getInfo() == clouds
    cloudy = ee.Filter.And(
        ee.Filter.gt("CLOUDY_PIXEL_PERCENTAGE", 10), ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 80)
    )
    assert dates.filter(cloudy).size().getInfo() == sum(10 < cover < 80 for cover in clouds)
    best = dates.sort("CLOUDY_PIXEL_PERCENTAGE", False).limit(2)
    assert best.aggregate_array("CLOUDY_PIXEL_PERCENTAGE").getInfo() == sorted(clouds)[:-3:-1]
    assert dates.filterBounds(ee.Geometry.Rectangle([0, 0, 1, 1])).size().getInfo() == 0
    assert ee.Image(world.MIXED).bandNames().getInfo()[:2] == ["elevation", "landcover"]


def test_assets_and_their_images():
    assert ee.data.getAsset(TREND)["type"] == "IMAGE_COLLECTION"
    first = ee.data.listAssets({"parent": world.DATED, "pageSize": 3})
    rest = ee.data.listAssets({"parent": world.DATED, "pageToken": first["nextPageToken"]})
    names = [image["id"].rpartition("/")[2] for image in first["assets"] + rest["assets"]]
    assert names == [tile.index for tile in world.find(world.DATED).tiles]
    described = ee.data.getAsset(f"{world.DATED}/20210601")
    assert described["startTime"] == "2021-06-01T00:00:00Z"
    assert [band["id"] for band in described["bands"]] == ["B4", "B8", "SCL"]
    own = world.find(world.MIXED).tiles[0]
    whole = ee.data.computePixels(
        {"expression": ee.Image(world.MIXED).select("landcover"), "fileFormat": "NUMPY_NDARRAY"}
    )
    assert whole.shape == (round((own.box[3] - own.box[1]) / 30), round((own.box[2] - own.box[0]) / 30))


def test_pixels_of_an_asset_without_an_expression():
    asked = request(None, POLAR) | {"assetId": world.MIXED, "bandIds": ["flags"]}
    del asked["expression"]
    np.testing.assert_array_equal(ee.data.getPixels(asked)["flags"], truth(world.MIXED, "flags", POLAR)[0])


@pytest.mark.parametrize("name", [world.MISSING, world.FORBIDDEN])
def test_assets_that_can_not_be_read(name):
    for kind in (ee.Image, lambda asset: ee.ImageCollection(asset).mosaic()):
        with pytest.raises(
            ee.EEException, match=r"not found \(does not exist or caller does not have access"
        ):
            compute(kind(name), POLAR)
    with pytest.raises(ee.EEException) as refused:
        ee.data.getAsset(name)
    assert refused.value.__context__.resp.status == (404 if name == world.MISSING else 403)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ee.Image(world.MIXED).select("nothing"), "Band pattern 'nothing' did not match any bands"),
        (lambda: ee.ImageCollection(world.DATED).filterDate("1999-01-01").mosaic(), "Image has no bands"),
        (lambda: ee.ImageCollection(world.DATED).filterDate("noon").mosaic(), "Bad date/time"),
        (lambda: ee.Image(world.MIXED).resample("bilinear"), "not supported by the stand-in"),
        (lambda: ee.Image(world.MIXED).entropy(ee.Kernel.circle(3)), "not supported by the stand-in"),
    ],
)
def test_expressions_that_are_refused(make, message):
    with pytest.raises(ee.EEException, match=message) as refused:
        compute(make(), POLAR)
    assert refused.value.__context__.resp.status == 400


def test_the_limit_of_a_request_counts_the_mask():
    image = ee.Image.constant([1, 2, 3]).toByte()
    side = 2896
    assert 3 * 2 * side**2 <= pixels.REQUEST_BYTES < 3 * 2 * (side + 1) ** 2
    assert compute(image, lattice(30.0, 0, 0, side, side, "EPSG:3413")).shape == (side, side)
    size = 3 * 2 * (side + 1) ** 2
    message = rf"Total request size \({size} bytes\) must be less than or equal to 50331648 bytes\."
    with pytest.raises(ee.EEException, match=message):
        compute(image, lattice(30.0, 0, 0, side + 1, side + 1, "EPSG:3413"))


def test_limits_of_dimensions_and_bands():
    with pytest.raises(ee.EEException, match="must be less than or equal to 32768"):
        small(lattice(30.0, 0, 0, 1, 32_769, "EPSG:3413"))
    with pytest.raises(ee.EEException, match="must be less than or equal to 1024"):
        compute(ee.Image.constant([1] * 1025), lattice(30.0, 0, 0, 1, 1, "EPSG:3413"))


def test_the_rules_can_be_stricter(fresh_earth_engine):
    fresh_earth_engine.rules(Rules(memory_limit=100))
    with pytest.raises(ee.EEException, match=r"User memory limit exceeded\.") as refused:
        small()
    assert refused.value.__context__.resp.status == 400
    assert small(POLAR[:10, :10]).shape == (10, 10)
    fresh_earth_engine.rules(Rules(per_minute=1))
    with pytest.raises(ee.EEException, match="Quota exceeded for quota metric") as refused:
        small()
    assert refused.value.__context__.resp.status == 429
    fresh_earth_engine.rules(Rules(restricted=True))
    assert (
        httpx.get(f"{fresh_earth_engine.url}/v1/{world.MIXED}", trust_env=False).headers[
            "x-earth-engine-quota-status"
        ]
        == "parallelism_restricted=true"
    )


def test_garbage_lies_under_the_mask_if_the_rules_say_so(fresh_earth_engine):
    _, valid = truth(world.MIXED, "landcover", POLAR)
    assert set(small()["landcover"][~valid]) == {0}
    fresh_earth_engine.rules(Rules(garbage=True))
    assert set(small()["landcover"][~valid]) == {pixels.GARBAGE}


async def test_forty_requests_at_once_and_no_more():
    # A server of its own: the forty are left hanging in it.
    with EarthEngineStandIn.start() as standin:
        stall = f.Fault(action=f.Stall(seconds=600), path=COMPUTE_PIXELS, times=40)
        standin.faults([stall])
        address = f"{standin.url}/v1/projects/any-project/image:computePixels"
        body = json.dumps(
            {"expression": json.loads(ee.Image(1).serialize(for_cloud_api=True)), "fileFormat": "NPY"}
        )
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as client:
            tasks = [asyncio.create_task(client.post(address, content=body)) for _ in range(40)]
            while standin.counters().most_active < 40:  # noqa: ASYNC110 - the event happens in another process
                await asyncio.sleep(0.05)
            refused = await client.post(address, content=body)
            for task in tasks:
                task.cancel()
            asked = standin.counters().matching(":computePixels")[0]
            standin.reset()  # what hangs counts no more: it may be of another test
            taken = await client.post(address, content=body)
        assert refused.status_code == 429
        assert refused.json()["error"]["message"].startswith("Too Many Requests: Request was rejected")
        assert asked == 41
        assert taken.status_code != 429


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (f.Status(status=503, body="google", message="Try later"), "Try later"),
        (
            f.Status(status=429, body="google", message="Quota exceeded for x", retry_after="7"),
            "Quota exceeded",
        ),
        (f.Status(status=502, body="html"), ee.EEException),
        (f.Drop(), ConnectionError),
        (f.Cut(), ConnectionError),
        (f.Page(), ValueError),
    ],
)
def test_faults_reach_the_client(fresh_earth_engine, action, error):
    fresh_earth_engine.faults([f.Fault(action=action, path=COMPUTE_PIXELS)])
    kind, message = (ee.EEException, error) if isinstance(error, str) else (error, None)
    with pytest.raises(kind, match=message):
        small()
    assert small().shape == POLAR.shape
    assert fresh_earth_engine.counters().matching(":computePixels")[0] == 2


def test_wrong_bytes_and_retries(fresh_earth_engine):
    fresh_earth_engine.faults([f.Fault(action=f.Garble(), path=COMPUTE_PIXELS)])
    assert (small() != small()).any()
    fresh_earth_engine.faults([f.Fault(action=f.Status(status=500, body="google"), path=COMPUTE_PIXELS)])
    ee.data.setMaxRetries(1)
    fresh_earth_engine.reset()
    fresh_earth_engine.faults([f.Fault(action=f.Status(status=500, body="google"), path=COMPUTE_PIXELS)])
    small()
    assert fresh_earth_engine.counters().matching(":computePixels")[0] == 2


def test_credentials(anew):
    anew.rules(Rules(token="secret"))
    with pytest.raises(ee.EEException, match="missing required authentication"):
        initialize(anew)
    stored = google.oauth2.credentials.Credentials(
        None,
        refresh_token="any",
        token_uri=f"{anew.url}/token",
        client_id="any",
        client_secret="any",
    )
    initialize(anew, stored)
    assert small().shape == POLAR.shape
    anew.rules(Rules(denied=True))
    ee.Reset()
    with pytest.raises(ee.EEException, match="Caller does not have required permission to use project"):
        initialize(anew)


def test_faults_of_initialisation(anew):
    anew.faults([f.Fault(action=f.Status(status=403, body="google", message="No"), path=ALGORITHMS)])
    with pytest.raises(ee.EEException, match="No"):
        initialize(anew)
