"""Map tiles: their pixels, what they fetch, what they say of what is not there."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rio_tiler.colormap import cmap
from rio_tiler.io import Reader
from rio_tiler.utils import linear_rescale

from icehouse_server.core.tile_matrix_sets import tile_at, tile_matrix_set, tile_matrix_sets
from icehouse_server.demo.faults import Fault, Status
from icehouse_server.demo.object_builder import Variant
from icehouse_server.demo.standins import StandIns
from icehouse_server.output.hillshade import exaggeration, hillshade

BASE = "/collections/arcticdem-32m"
TILE, OTHER = "67_33", "45_73"
TILES = (OTHER, "66_33", "66_34", TILE, "67_34")
"""The files that the places of this module lie in."""
RANGE = (0, 1000)
GRID = Affine(32, 0, -4_000_096, 0, -32, 4_100_096)
GREY = "rescale=0,1000&properties=dem"


@pytest.fixture(scope="module")
def daemon(start_daemon, standins, earth_engine):
    standins.prepare([standins.key("32m", tile) for tile in TILES])
    settings = {
        "ICEHOUSE_EARTHENGINE_URL": earth_engine.url,
        "ICEHOUSE_EARTHENGINE_CREDENTIALS": "none",
        "ICEHOUSE_EARTHENGINE_PROJECT": "any-project",
    }
    with start_daemon(settings) as started:
        yield started


def get(daemon, path, collection="arcticdem-32m", **headers):
    return daemon.http.get(f"/collections/{collection}/{path}", headers=headers)


def picture(answer):
    """(rows, columns, 4) of a tile."""
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def polar(zoom, x, y, query):
    """The tile of the northern square at a place in metres, as path and geobox."""
    side = 256 * 32768 / 2**zoom
    col, row = int((x + 4194304) // side), int((4194304 - y) // side)
    return f"tiles/EPSG3413Quad/{zoom}/{row}/{col}?{query}", tile_at("EPSG3413Quad", zoom, row, col).geobox()


def mercator(zoom, lon, lat):
    """Column and row of the web's tile at a place."""
    tile = tile_matrix_set("WebMercatorQuad").tile(lon, lat, zoom)
    return tile.x, tile.y


def pixels(daemon, geobox, name="dem", **more):
    """The coverage on a tile's pixels."""
    body = {
        "proj:code": str(geobox.crs),
        "proj:transform": list(geobox.affine)[:6],
        "proj:shape": list(geobox.shape),
        "bands": [name],
        **more,
    }
    answer = daemon.http.post(f"{BASE}/coverage", json=body, params={"f": "npy"})
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))[0]


def ended(daemon, answer):
    assert answer.status_code == 201, answer.text
    end = time.monotonic() + 60
    while (found := daemon.http.get(answer.headers["location"]).json())["status"] in {"accepted", "running"}:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert found["status"] == "successful", found


# Pixels


def test_a_tile_on_the_grid_is_its_pixels(daemon):
    path, geobox = polar(10, -750_000, 2_650_000, GREY)
    truth, valid = StandIns.truth("arcticdem", "32m", "dem", geobox.affine, (256, 256))
    found = picture(get(daemon, path))
    np.testing.assert_array_equal(found[..., 3] == 255, valid)
    expected = linear_rescale(truth, RANGE).astype("uint8")
    np.testing.assert_array_equal(found[..., 0][valid], expected[valid])
    assert valid.mean() > 0.5
    assert found[..., 0][valid].std() > 5


def test_a_tile_of_the_web_is_rio_tilers(daemon, objects_folder):
    x, y = mercator(11, 150.803, 64.966)
    path = next(objects_folder.glob(f"*/{StandIns.dem_key('32m', TILE)}"), None) or next(
        objects_folder.rglob(StandIns.dem_key("32m", TILE).rpartition("/")[2])
    )
    with Reader(str(path)) as reader:
        image = reader.tile(x, y, 11, tilesize=256, resampling_method="bilinear", reproject_method="bilinear")
    expected, shown = image.array.data[0], ~image.array.mask[0]
    found = picture(get(daemon, f"xyz/11/{x}/{y}.png?{GREY}"))
    both = shown & (found[..., 3] == 255)
    assert both.mean() > 0.95
    assert (shown == (found[..., 3] == 255)).mean() > 0.99
    grey = linear_rescale(expected, RANGE)
    # GDAL places pixels to an eighth of one (its warp interpolates the transform), differently in a virtual
    # raster than in one call: heights then differ by that part of the slope.
    slope = np.hypot(*np.gradient(grey))
    off = np.abs(found[..., 0].astype(float) - grey)[both] - 1 - slope[both] / 2
    assert (off <= 0).mean() > 0.999
    assert np.median(np.abs(found[..., 0].astype(float) - grey)[both]) <= 1
    coloured = picture(get(daemon, f"xyz/11/{x}/{y}.png?{GREY}&colormap_name=terrain"))
    table = np.array([cmap.get("terrain")[value] for value in range(256)])
    np.testing.assert_array_equal(coloured[both], table[found[..., 0]][both])


def test_neighbouring_tiles_of_relief_are_one_relief(daemon):
    path, geobox = polar(10, -760_000, 2_660_000, "style=hillshade")
    z, row, col = path.partition("?")[0].split("/")[2:]
    neighbour = f"tiles/EPSG3413Quad/{z}/{row}/{int(col) + 1}?style=hillshade"
    joint = type(geobox)((258, 514), geobox.affine * Affine.translation(-1, -1), geobox.crs)
    heights = pixels(daemon, joint)
    sides = np.full((256, 512), 32, dtype=np.float32)
    found = np.concatenate([picture(get(daemon, each))[..., 0] for each in (path, neighbour)], axis=1)
    expected = hillshade(heights, heights != -9999, sides, sides, exaggeration(sides)).astype(int)
    valid = heights[1:-1, 1:-1] != -9999
    # The plane is the earth to a hundredth here, which the tiles know and this relief does not.
    off = np.abs(found - expected)[valid]
    assert off.max() <= 4
    seam = np.abs(found[:, 255:257] - expected[:, 255:257])[valid[:, 255:257]]
    assert seam.mean() <= off.mean() + 0.5
    assert found[valid].std() > 10


def test_tinted_relief_has_colours_and_shade(daemon):
    tinted, heights, relief = (
        picture(get(daemon, polar(10, -750_000, 2_650_000, query)[0])).astype(int)
        for query in ("style=tinted", "rescale=-800,2400&colormap_name=terrain", "style=hillshade")
    )
    dark, light = relief[..., 0] < 150, relief[..., 0] > 215
    assert dark.sum() > 100 < light.sum()
    assert (tinted[dark][:, :3].sum(axis=1) < heights[dark][:, :3].sum(axis=1)).all()
    assert (tinted[light][:, :3].sum(axis=1) >= heights[light][:, :3].sum(axis=1)).all()


def test_webp_and_twice_the_pixels(daemon):
    x, y = mercator(11, 150.803, 64.966)
    png, webp = (get(daemon, f"xyz/11/{x}/{y}.{suffix}?{GREY}") for suffix in ("png", "webp"))
    assert (png.headers["content-type"], webp.headers["content-type"]) == ("image/png", "image/webp")
    assert Image.open(io.BytesIO(webp.content)).format == "WEBP"
    assert np.abs(picture(png).astype(int) - picture(webp)).mean() < 3
    large = picture(get(daemon, f"xyz/11/{x}/{y}@2x.png?{GREY}"))
    assert large.shape == (512, 512, 4)
    assert np.abs(large[::2, ::2, 0].astype(int) - picture(png)[..., 0]).mean() < 3


def test_formats_by_f_and_accept(daemon):
    path, _ = polar(10, -750_000, 2_650_000, GREY)
    for accept, media in (
        ("image/webp", "image/webp"),
        ("*/*", "image/png"),
        ("image/*,image/webp;q=.5", "image/png"),
    ):
        answer = get(daemon, path, accept=accept)
        assert answer.headers["content-type"] == media
        assert answer.headers["vary"] == "Accept"
    assert get(daemon, f"{path}&f=webp", accept="image/png").headers["content-type"] == "image/webp"
    assert get(daemon, path, accept="image/jpeg").status_code == 406


def test_three_bands_of_trends_with_their_mask(daemon):
    x, y = mercator(12, 150.05, 65.05)
    found = picture(get(daemon, f"xyz/12/{x}/{y}.png", "tctrend-2024"))
    geobox = tile_at("WebMercatorQuad", 12, y, x).geobox()
    body = {
        "proj:code": "EPSG:3857",
        "proj:transform": list(geobox.affine)[:6],
        "proj:shape": [256, 256],
        "bands": ["TCB_slope", "TCG_slope", "TCW_slope", "datamask"],
    }
    answer = daemon.http.post("/collections/tctrend-2024/coverage", json=body, params={"f": "npy"})
    values = np.load(io.BytesIO(answer.content))
    shown = values[3] != 0
    np.testing.assert_array_equal(found[..., 3] == 255, shown)
    np.testing.assert_array_equal(found[shown][:, :3], values[:3, shown].T)
    assert shown.any()


def test_one_time_step(daemon):
    x, y = mercator(13, 150.05, 65.05)
    path = f"xyz/13/{x}/{y}.png"
    tiles = {year: get(daemon, f"{path}?datetime={year}", "alphaearth") for year in (2019, 2020)}
    assert {answer.status_code for answer in tiles.values()} == {200}
    assert tiles[2019].content != tiles[2020].content
    several = get(daemon, f"{path}?datetime=2019/2020", "alphaearth")
    assert (several.status_code, several.json()["parameter"]) == (400, "datetime")
    assert get(daemon, f"{path}?datetime=1999", "alphaearth").json()["kind"] == "unknown-time"


# What is asked


@pytest.mark.parametrize(
    ("path", "status", "kind", "said"),
    [
        ("xyz/3/1/7.png", 204, None, None),
        ("tiles/EPSG3031Quad/5/9/9", 204, None, None),
        ("xyz/0/0/0@3x.png", 400, "bad-parameter", "y: '0@3x' is not a row"),
        ("xyz/2/4/0.png", 400, "bad-parameter", "x: at zoom 2 of WebMercatorQuad it is from 0 to 3"),
        ("xyz/2/0/0.jpg", 400, "bad-parameter", "suffix: 'jpg' is not a format"),
        ("tiles/WebMercatorQuad/25/0/0", 400, "bad-parameter", "z: WebMercatorQuad has zooms from 0 to 24"),
        ("tiles/Mercator/0/0/0", 404, "unknown-tms", "there is no tile matrix set 'Mercator'"),
        ("xyz/0/0/0.png?style=nope", 404, "unknown-style", "no style 'nope'"),
        ("xyz/0/0/0.png?properties=nope", 404, "unknown-band", "no band 'nope'"),
        ("xyz/0/0/0.png?properties=dem,mad", 400, "bad-parameter", "properties: a picture has one band"),
        ("xyz/0/0/0.png?bands=dem&properties=dem", 400, "bad-parameter", "bands: "),
        ("xyz/0/0/0.png?properties=mad", 400, "bad-parameter", "rescale: required for mad"),
        ("xyz/0/0/0.png?rescale=1", 400, "bad-parameter", "rescale: 1 number"),
        ("legend.json?properties=dem&rescale=-1e308,1e308", 400, "bad-parameter", "rescale: pairs of finite"),
        ("xyz/0/0/0.png?rescale=2,1", 400, "bad-parameter", "rescale: pairs of finite"),
        ("xyz/0/0/0.png?rescale=0,1&rescale=0,1", 400, "bad-parameter", "rescale: 2 pairs for 1 band"),
        ("xyz/0/0/0.png?style=hillshade&rescale=0,1", 400, "bad-parameter", "rescale: shaded relief"),
        ("xyz/0/0/0.png?colormap_name=virdis&rescale=0,1", 400, "bad-parameter", "colormap_name: 'virdis'"),
        ("xyz/0/0/0.png?hillshade=yes", 400, "bad-parameter", "hillshade: "),
        ("xyz/0/0/0.png?resampling=best", 400, "bad-parameter", "resampling: "),
        ("xyz/0/0/0.png?datetime=2020", 400, "bad-parameter", "datetime: "),
    ],
)
def test_refusals(daemon, path, status, kind, said):
    answer = get(daemon, path)
    assert answer.status_code == status, answer.text
    if kind is None:
        assert not answer.content
        return
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["kind"] == kind
    assert said in answer.json()["detail"]


def test_a_source_that_fails_is_an_error_and_no_picture(daemon, fresh_standins):
    fresh_standins.faults([Fault(path="*", action=Status(status=403))])
    path, _ = polar(10, 1_166_000, -1_134_000, GREY)
    answer = get(daemon, path)
    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
    assert answer.json()["kind"] == "chunks-failed"
    assert "fail_on_error" not in answer.json()["hint"]
    fresh_standins.faults([])
    assert get(daemon, path).status_code == 200


# Tags


def test_etag_changes_with_its_own_chunks_and_no_others(daemon, fresh_standins):
    path, geobox = polar(10, 3_250_000, 450_000, GREY)
    first = get(daemon, path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["cache-status"] == "icehouse; fwd=miss; stored"

    pixels(daemon, polar(10, 3_250_000 - 40_000, 450_000 - 30_000, "")[1])  # elsewhere
    again = get(daemon, path)
    assert again.headers["icehouse-snapshot"] != first.headers["icehouse-snapshot"]
    assert again.headers["etag"] == tag
    assert again.headers["cache-status"] == "icehouse; hit"
    known = get(daemon, path, **{"if-none-match": tag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert get(daemon, path.replace("1000", "900")).headers["etag"] != tag

    key = fresh_standins.key("32m", OTHER)
    fresh_standins.lies({key: Variant(add=70.0)})
    fresh_standins.prepare([key])
    box = geobox.boundingbox
    body = {"bbox": list(box.bbox), "bbox-crs": "EPSG:3413"}
    ended(daemon, daemon.http.post(f"{BASE}/refresh", json=body))
    renewed = get(daemon, path, **{"if-none-match": tag})
    assert renewed.status_code == 200
    assert renewed.headers["etag"] != tag
    assert (picture(renewed)[..., 0].astype(int) - picture(first)[..., 0]).max() in {17, 18}

    tag = renewed.headers["etag"]
    ended(daemon, daemon.http.post(f"{BASE}/truncate", json=body))
    assert get(daemon, path, **{"if-none-match": tag, "cache-control": "only-if-cached"}).status_code == 504


# What a tile fetches


@pytest.fixture(scope="module")
def cold(start_daemon):
    with start_daemon(
        {"ICEHOUSE_COLLECTIONS": "arcticdem-32m,arcticdem-2m", "ICEHOUSE_MAX_TILE_CHUNKS": "1"}
    ) as started:
        yield started


def test_a_view_from_afar_costs_nothing_and_is_hatched(cold, fresh_standins):
    for collection in ("arcticdem-32m", "arcticdem-2m"):
        for path in (
            "xyz/0/0/0.png",
            "xyz/3/7/1.png",
            "tiles/EPSG3413Quad/3/3/3",
            "tiles/WorldCRS84Quad/1/0/3",
        ):
            answer = get(cold, path, collection)
            found = picture(answer)
            assert int(answer.headers["icehouse-chunks-not-shown"]) > 16
            assert answer.headers["cache-control"] == "no-store"
            assert "etag" not in answer.headers
            assert answer.headers["cache-status"] == "icehouse; hit; detail=incomplete"
            alphas = set(np.unique(found[..., 3]))
            assert {24, 150} <= alphas <= {0, 24, 150}
    assert fresh_standins.counters().requests == 0
    whole = picture(get(cold, "tiles/EPSG3413Quad/3/3/3"))
    neighbour = picture(get(cold, "tiles/EPSG3413Quad/3/3/4"))
    np.testing.assert_array_equal(whole, neighbour)  # the lines go on over the edge
    assert (np.roll(whole, 16, axis=1) == whole).all()


def test_what_is_cached_is_shown_between_the_hatch(cold):
    within, around = (polar(zoom, -750_000, 2_646_000, GREY) for zoom in (13, 10))
    assert get(cold, within[0]).headers["cache-status"] == "icehouse; fwd=miss; stored"
    answer = get(cold, around[0])
    assert answer.headers["icehouse-chunks-not-shown"] == "3"
    found = picture(answer)
    truth, valid = StandIns.truth("arcticdem", "32m", "dem", around[1].affine, (256, 256))
    column, row = ((edge / 256) % 1 for edge in ~GRID * (around[1].affine * (0, 0)))
    across, down = (round(256 * (1 - part)) for part in (column, row))
    quarters = [
        (rows, cols)
        for rows in (slice(0, down), slice(down, 256))
        for cols in (slice(0, across), slice(across, 256))
    ]
    (shown,) = [place for place in quarters if 255 in found[place][..., 3]]
    known = valid[shown]
    np.testing.assert_array_equal(found[shown][..., 3], np.where(known, 255, 0))
    expected = linear_rescale(truth[shown], RANGE).astype("uint8")
    np.testing.assert_array_equal(found[shown][..., 0][known], expected[known])
    assert known.mean() > 0.5
    for place in quarters:
        assert place == shown or set(np.unique(found[place][..., 3])) == {24, 150}


def test_a_mid_scale_tile_takes_overviews_alone(daemon, fresh_standins):
    path, geobox = polar(8, -750_000, 2_650_000, "style=hillshade")
    answer = get(daemon, path)
    assert answer.status_code == 200
    assert answer.headers["etag"]
    counters = fresh_standins.cogs_counters()
    sizes = fresh_standins.prepare([key.removeprefix("/") for _, key in counters.by_path])
    assert geobox.affine.a == 128
    # All of the second overviews of these files is a twentieth of them, and their headers some more.
    assert 0 < counters.bytes < sum(sizes.values()) / 8


# Documents


def test_tile_sets(daemon):
    found = daemon.http.get("/tileMatrixSets").json()["tileMatrixSets"]
    assert [each["id"] for each in found] == list(tile_matrix_sets())
    for each in found:
        answer = daemon.http.get(each["links"][0]["href"])
        assert (
            type(tile_matrix_set(each["id"])).model_validate(answer.json()).crs
            == tile_matrix_set(each["id"]).crs
        )
    sets = get(daemon, "tiles").json()["tilesets"]
    assert [each["title"].split()[-1] for each in sets] == [
        "EPSG3413Quad",
        "WebMercatorQuad",
        "WorldCRS84Quad",
    ]
    registered = [daemon.http.get(f"/tileMatrixSets/{each['title'].split()[-1]}").json() for each in sets]
    assert [each.get("tileMatrixSetURI") for each in sets] == [each.get("uri") for each in registered]
    assert sets[1]["tileMatrixSetURI"] == "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad"
    one = daemon.http.get(sets[0]["links"][0]["href"]).json()
    limits = {each["tileMatrix"]: each for each in one["tileMatrixSetLimits"]}["10"]
    item = next(link["href"] for link in one["links"] if link["rel"] == "item")
    for row, col, status in (
        (limits["minTileRow"], limits["minTileCol"], 200),
        (limits["maxTileRow"], limits["maxTileCol"], 200),
        (limits["minTileRow"] - 1, limits["minTileCol"], 204),
        (limits["maxTileRow"], limits["maxTileCol"] + 1, 204),
    ):
        place = item.format(tileMatrix=10, tileRow=row, tileCol=col)
        assert daemon.http.get(place).status_code == status


def test_tilejson_leads_to_its_tiles(daemon):
    asked = "rescale=0,900&colormap_name=viridis"
    for tms, expected in (("EPSG3413Quad", (6, 10)), ("WebMercatorQuad", (7, 12))):
        found = get(daemon, f"{tms}/tilejson.json?{asked}").json()
        assert (found["tilejson"], found["minzoom"], found["maxzoom"]) == ("3.0.0", *expected)
        assert found["tileMatrixSet"] == tms
        (template,) = found["tiles"]
        assert template.endswith(asked)
        zoom = found["maxzoom"] - 1
        tile = tile_matrix_set(tms).tile(150.803, 64.966, zoom)
        url = template.format(z=zoom, x=tile.x, y=tile.y)
        assert picture(daemon.http.get(url))[..., 3].any()
        legend = daemon.http.get(found["legend"])
        assert (legend.status_code, legend.headers["content-type"]) == (200, "image/png")
    assert get(daemon, "WebMercatorQuad/tilejson.json?style=x").status_code == 404


def test_the_map_leads_to_the_page(daemon):
    answer = get(daemon, "EPSG3413Quad/map.html")
    assert answer.status_code == 307
    assert answer.headers["location"] == f"{daemon.url}/#collection=arcticdem-32m&tms=EPSG3413Quad"


def test_legends(daemon):
    ramp = get(daemon, "legend.json?style=heights").json()
    table = cmap.get("viridis")
    assert (ramp["kind"], ramp["units"], ramp["rescale"]) == ("ramp", "m", [[0, 2500]])
    assert ramp["stops"][0] == [0, "#{:02x}{:02x}{:02x}".format(*table[0][:3])]
    assert ramp["stops"][-1] == [2500, "#{:02x}{:02x}{:02x}".format(*table[255][:3])]
    assert get(daemon, "legend.json").json()["kind"] == "relief"
    assert get(daemon, "legend.json", "alphaearth").json()["kind"] == "rgb"
    for query in ("style=heights", "style=hillshade", GREY):
        image = Image.open(io.BytesIO(get(daemon, f"legend.png?{query}").content)).convert("RGBA")
        assert image.size == (320, 64)
    colours = np.asarray(Image.open(io.BytesIO(get(daemon, "legend.png?style=heights").content)))
    assert tuple(colours[32, 10, :3]) == table[0][:3]
    assert tuple(colours[32, 309, :3]) == table[255][:3]


@pytest.mark.parametrize("tms", ["EPSG3413Quad", "WebMercatorQuad", "WorldCRS84Quad"])
def test_gdals_wmts_driver_reads_the_tiles_where_they_lie(daemon, tms, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    x, y = -750_000.0, 2_650_000.0
    name = (
        f"WMTS:{daemon.url}{BASE}/WMTSCapabilities.xml,layer=arcticdem-32m,tilematrixset={tms},style=heights"
    )
    with rasterio.open(name) as raster:
        assert raster.count == 4
        (col,), (row,) = rasterio.warp.transform("EPSG:3413", raster.crs, [x], [y])
        place = [int(number) for number in ~raster.transform * (col, row)]
        window = rasterio.windows.Window(place[0] - 8, place[1] - 8, 16, 16)
        found = raster.read(window=window)
        bounds = raster.window_bounds(window)
    if tms == "EPSG3413Quad":
        assert (raster.transform.a, raster.transform.e) == (32, -32)
    affine = Affine((bounds[2] - bounds[0]) / 16, 0, bounds[0], 0, (bounds[1] - bounds[3]) / 16, bounds[3])
    crs = {"EPSG3413Quad": "EPSG:3413", "WebMercatorQuad": "EPSG:3857", "WorldCRS84Quad": "EPSG:4326"}[tms]
    geobox = type(tile_at(tms, 0, 0, 0).geobox())((16, 16), affine, crs)
    values = pixels(daemon, geobox)
    table = np.array([cmap.get("viridis")[value][:3] for value in range(256)])
    expected = table[linear_rescale(values, (0, 2500)).astype(int)]
    assert np.abs(found[:3].transpose(1, 2, 0).astype(int) - expected).max() <= 4
    assert (found[3] == 255).all()


def test_styles_stand_in_the_collection_document(daemon):
    renders = daemon.http.get(BASE).json()["renders"]
    assert list(renders) == ["hillshade", "tinted", "heights"]
    assert renders["hillshade"]["icehouse:hillshade"] is True
    assert renders["heights"] == {
        "title": "Heights",
        "assets": [],
        "bands": ["dem"],
        "rescale": [[0, 2500]],
        "colormap_name": "viridis",
    }
    assert "render/v2.0.0" in json.dumps(daemon.http.get(BASE).json()["stac_extensions"])
