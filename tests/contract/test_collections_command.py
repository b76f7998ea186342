"""``icehouse collections check | add | show`` against the stand-ins: what they report, and how they
refuse."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from importlib import resources

import numpy as np
import pytest
import rasterio
import structlog
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.crs import CRS
from rasterio.warp import transform

from icehouse_server.cli import main
from icehouse_server.collections import template_files
from icehouse_server.collections.loader import parse_collection
from icehouse_server.raster.grid_bounds import GridBounds, snapped

ARCTICDEM = (resources.files("icehouse_server.collections") / "builtin" / "arcticdem-32m.toml").read_text()
SEARCHED = ARCTICDEM[: ARCTICDEM.index("# An item's id")] + ARCTICDEM[ARCTICDEM.index("[[bands]]") :]
"""Without the tiling: items are searched for."""
AT = ("--at", "150.5,65.1")


@pytest.fixture
def alone(tmp_path, monkeypatch, standins):
    """An empty home; the stand-ins as mirrors."""
    for name in [name for name in os.environ if name.startswith("ICEHOUSE_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("ICEHOUSE_MIRRORS", json.dumps(standins.mirrors))
    monkeypatch.chdir(tmp_path)
    kept = structlog.get_config()
    yield tmp_path
    structlog.configure(**kept)


@pytest.fixture
def ask(alone, monkeypatch, capsys):  # noqa: ARG001 - for its environment
    """Runs a command: exit status, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["icehouse", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def file(alone):
    """Writes a collection file."""

    def make(text):
        path = alone / "mine.toml"
        path.write_text(text)
        return path

    return make


# check


def test_a_chunk_is_tried_and_told(ask, file, standins):
    code, out, err = ask("collections", "check", file(ARCTICDEM), *AT, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["items"] == ["67_33_32m_v4.1"]
    assert found["requests"] > 0 < found["bytes"]
    assert (found["width"], found["height"], found["step"]) == (256, 256, None)
    spec = parse_collection(ARCTICDEM, "x")
    x, y = (values[0] for values in transform("OGC:CRS84", "EPSG:3413", [150.5], [65.1]))
    col, row = (int(place) // 256 for place in ~spec.grid.geobox.affine * (x, y))
    geobox = spec.grid.geobox_of(spec.grid.chunk_window(row, col))
    values, valid = standins.truth("arcticdem", "32m", "dem", geobox.affine, geobox.shape)
    dem = found["bands"]["dem"]
    assert (dem["min"], dem["max"], dem["valid"]) == (values[valid].min(), values[valid].max(), valid.mean())


def test_it_is_told_to_people_too(ask, file):
    code, out, _ = ask("collections", "check", file(ARCTICDEM), *AT)
    assert code == 0
    for word in (
        "the file is right",
        "231256 x 234381",
        "256 x 256",
        "requests",
        "dem",
        "float32",
        "started again",
    ):
        assert word in out


def test_a_void_place_is_said_to_be_one(ask, file):
    code, out, _ = ask("collections", "check", file(ARCTICDEM), "--at", "0,89.9")
    assert code == 0
    assert "Nothing is valid there" in out
    assert "none" in out


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (ARCTICDEM.replace("[grid]", "[grid"), (), ["mine.toml is not TOML", "line"]),
        (ARCTICDEM.replace("chunk =", "chunks ="), (), ["unknown key 'grid.chunks'", "mean 'grid.chunk'"]),
        (ARCTICDEM.replace('title = "ArcticDEM v4.1 mosaic, 32 m"', ""), (), ["'title' is missing"]),
        (ARCTICDEM.replace('"uint8"', '"byte"'), (), ["'byte' is not one of uint8"]),
        (ARCTICDEM.replace("EPSG:3413", "EPSG:99"), (), ["'EPSG:99' is not a CRS"]),
        (ARCTICDEM.replace("3400096, 4100096", "3400090, 4100096"), (), ["grid.bounds", "not whole numbers"]),
        (ARCTICDEM.replace('type = "stac"', 'type = "stak"'), (), ["'stak' is not installed", "stac"]),
        (SEARCHED.replace("api/v1", "api/v2"), (), ["there is no STAC API at", "correct api"]),
        (SEARCHED.replace('v4.1-32m"\nasset', 'v9-32m"\nasset'), (), ["no collection 'arcticdem-mosa"]),
        (ARCTICDEM.replace('v4.1-32m"\nasset', 'v9-32m"\nasset'), (), ["no collection 'arcticdem-mosa"]),
        (SEARCHED.replace('asset = "dem"', 'asset = "dam"'), AT, ["no asset 'dam'", "it has 'hillshade'"]),
        (SEARCHED.replace('"uint8"', '"uint16"'), AT, ["its data type is uint8", 'dtype = "uint8"']),
        (SEARCHED.replace("resolution = 32", "resolution = 16"), AT, ["-800096.0", "resolution = 32"]),
        (
            SEARCHED.replace("-4000096, -3400096, 3400096, 4100096", "-4000080, -3400080, 3400080, 4100080"),
            AT,
            ["does not lie on the collection's grid", "x -800096", "composite"],
        ),
        (SEARCHED.replace("EPSG:3413", "EPSG:3995"), AT, ["its CRS is EPSG:3413", 'crs = "EPSG:3413"']),
        (ARCTICDEM, ("--at", "0,-80"), ["outside the collection's grid", "-180.0, 49.9, 180.0, 90.0"]),
        (ARCTICDEM, ("--at", "here"), ["--at", "longitude,latitude"]),
        (ARCTICDEM, ("--datetime", "2020"), ["no time axis"]),
    ],
)  # fmt: skip
def test_mistakes_are_answered_with_what_would_be_right(ask, file, text, options, said):
    assert text != ARCTICDEM or options
    code, out, err = ask("collections", "check", file(text), *options)
    assert (code, out) == (1, "")
    for word in said:
        assert word in err
    assert "Traceback" not in err


@pytest.mark.parametrize("crs", ['LOCAL_CS["site",UNIT["metre",1]]', "IAU_2015:30135"])
def test_a_file_with_a_crs_of_its_own_is_named(ask, file, alone, crs):
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        alone / "odd.tif", "w", crs=crs, transform=Affine.scale(10, -10), **profile
    ) as dataset:
        dataset.write(np.ones((1, 64, 64), "uint8"))
    text = """
id = "mine"
title = "Mine"
[grid]
crs = "EPSG:32622"
resolution = 10
bounds = [500000, 7300000, 510000, 7400000]
[source]
type = "files"
folder = "FOLDER"
[[bands]]
name = "b"
dtype = "uint8"
nodata = 0
"""
    code, out, err = ask("collections", "check", file(text.replace("FOLDER", str(alone))))
    assert (code, out) == (1, "")
    assert "file 'odd.tif': its CRS is" in err
    assert "Traceback" not in err


def test_a_host_that_is_not_listed_is_named_with_the_line_to_add(ask, file, standins, monkeypatch):
    only = {url: to for url, to in standins.mirrors.items() if "stac" in url}
    monkeypatch.setenv("ICEHOUSE_MIRRORS", json.dumps(only))
    text = SEARCHED.replace('["pgc-opendata-dems.s3.us-west-2.amazonaws.com"]', "[]")
    code, _, err = ask("collections", "check", file(text), *AT)
    assert code == 1
    assert 'asset_hosts = ["pgc-opendata-dems.s3.us-west-2.amazonaws.com"]' in err


def test_an_api_that_does_not_answer(ask, file, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_MIRRORS", '{"https://stac.pgc.umn.edu/": "http://127.0.0.1:9/"}')
    code, _, err = ask("collections", "check", file(SEARCHED), *AT)
    assert code == 1
    assert "the API did not answer" in err


def test_no_file(ask):
    code, _, err = ask("collections", "check", "none.toml")
    assert code == 1
    assert "none.toml can't be read" in err


LAKE = """
id = "lake"
title = "A lake"
[grid]
crs = "EPSG:32633"
resolution = 10
bounds = [400000, 5200000, 402000, 5201000]
[extent]
bbox = [13.6, 46.9, 13.8, 47.0]
[time]
start = "2020"
period = "P1Y"
end = "2023"
[source]
type = "files"
folder = "tifs"
datetime = { pattern = "(\\\\d{4})", format = "%Y" }
[[bands]]
name = "depth"
dtype = "float32"
[bands.source]
"""


def test_steps_of_time_and_folders_beside_the_file(ask, file, alone):
    (alone / "tifs").mkdir()
    for year in (2020, 2021, 2022):
        with rasterio.open(
            alone / "tifs" / f"{year}.tif", "w", driver="GTiff", count=1, width=200, height=100,
            dtype="float32", crs="EPSG:32633", transform=Affine(10, 0, 400_000, 0, -10, 5_201_000),
        ) as made:  # fmt: skip
            made.write(np.full((1, 100, 200), year, dtype="float32"))
    for options, year in (((), 2022), (("--datetime", "2021-05"), 2021)):
        code, out, err = ask("collections", "check", file(LAKE), "--json", *options)
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert found["step"].startswith(str(year))
        assert found["bands"]["depth"] == {"valid": 1.0, "min": year, "max": year}
    code, _, err = ask("collections", "check", file(LAKE), "--datetime", "2030")
    assert code == 1
    assert "the nearest steps are 2022" in err
    code, _, err = ask("collections", "check", file(LAKE), "--datetime", "soon")
    assert code == 1
    assert "--datetime" in err


# add and show

ADD = ("collections", "add", "sentinel-2-l2a-monthly", "--crs", "EPSG:32633", "--resolution", "10")


def test_a_template_gets_a_grid_and_a_place_in_the_users_folder(ask, alone):
    code, out, _ = ask(*ADD, "--bbox", "12.0,47.5,12.2,47.6", "--id", "alps", "--chunk", "256")
    path = alone / "icehouse" / "collections" / "alps.toml"
    assert code == 0
    assert str(path) in out
    assert "started again" in out
    spec = parse_collection(path.read_text(), "alps.toml")
    assert spec.id == "alps"
    assert spec.grid.chunk == 256
    left, bottom, right, top = spec.grid.geobox.boundingbox.bbox
    assert all(edge % 10 == 0 for edge in (left, bottom, right, top))
    x, y = transform("OGC:CRS84", "EPSG:32633", [12.0, 12.2, 12.0, 12.2], [47.5, 47.5, 47.6, 47.6])
    assert left <= min(x) < left + 100
    assert bottom <= min(y) < bottom + 100
    assert right - 100 < max(x) <= right
    west, south, east, north = spec.bbox
    assert 11.9 < west <= 12.0
    assert 12.2 <= east < 12.3
    assert 47.4 < south <= 47.5
    assert 47.6 <= north < 47.7
    code, out, _ = ask("collections", "show", "alps")
    assert (code, out) == (0, path.read_text())


def test_a_file_that_is_there_is_kept_unless_told_otherwise(ask, alone):
    assert ask(*ADD, "--bbox", "12.0,47.5,12.2,47.6")[0] == 0
    path = alone / "icehouse" / "collections" / "sentinel-2-l2a-monthly.toml"
    before = path.read_text()
    code, _, err = ask(*ADD, "--bbox", "13.0,47.5,13.2,47.6")
    assert code == 1
    assert "--force" in err
    assert path.read_text() == before
    assert ask(*ADD, "--bbox", "13.0,47.5,13.2,47.6", "--force")[0] == 0
    assert path.read_text() != before


def test_the_folder_that_is_set_is_used(ask, alone, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_COLLECTIONS_DIR", str(alone / "mine"))
    assert ask(*ADD, "--bbox", "300000,5260000,301000,5261000", "--bbox-crs", "EPSG:32633")[0] == 0
    text = (alone / "mine" / "sentinel-2-l2a-monthly.toml").read_text()
    assert tomllib.loads(text)["grid"]["bounds"] == [300000, 5260000, 301000, 5261000]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bbox", "12,47"), ["--bbox", "minx,miny,maxx,maxy"]),
        (("--bbox", "12,48,13,47"), ["--bbox"]),
        (("--bbox", "300000,5260000,301000,5261000"), ["--bbox", "--bbox-crs"]),
        (("--bbox", "12.0,47.5,12.2,47.6", "--crs", "EPSG:0"), ["--crs", "'EPSG:0' is not a CRS"]),
        (("--bbox", "12.0,47.5,12.2,47.6", "--bbox-crs", "x"), ["--bbox-crs", "'x' is not a CRS"]),
        (("--bbox", "12.0,47.5,12.2,47.6", "--id", "../x"), ["'../x'", "id"]),
    ],
)
def test_what_can_not_be_added_is_said(ask, alone, words, said):
    code, _, err = ask(*ADD, *words)
    assert code == 1
    for word in said:
        assert word in err
    assert not (alone / "icehouse").exists()


def test_names_that_there_are_not(ask):
    code, _, err = ask("collections", "add", "sentinel-2", *ADD[3:], "--bbox", "12.0,47.5,12.2,47.6")
    assert code == 1
    assert "did you mean 'sentinel-2-l2a-monthly'" in err
    code, _, err = ask("collections", "show", "rema-32")
    assert code == 1
    assert "did you mean 'rema-32m'" in err


def test_built_in_files_and_templates_are_shown(ask):
    assert ask("collections", "show", "arcticdem-32m")[1] == ARCTICDEM
    assert "[source.composite]" in ask("collections", "show", "sentinel-2-l2a-monthly")[1]


@given(
    st.floats(-179, 179), st.floats(-80, 80), st.floats(0.001, 1), st.floats(0.001, 1),
    st.sampled_from([("EPSG:3857", 10.0), ("EPSG:3857", 0.3), ("EPSG:4326", 0.1), ("EPSG:4326", 1 / 3600)]),
)  # fmt: skip
def test_bounds_are_whole_pixels_and_hold_the_box(west, south, width, height, target):
    name, resolution = target
    crs, box = CRS(name), GridBounds(west, south, west + width, south + height)
    bounds = snapped(box, CRS("OGC:CRS84"), crs, resolution)
    for edge in bounds:
        assert abs(edge / resolution - round(edge / resolution)) < 1e-4
    x, y = transform("OGC:CRS84", name, [box.minx, box.maxx], [box.miny, box.maxy])
    slack = resolution * 1e-5
    assert bounds.minx - slack <= x[0] < bounds.minx + 1.01 * resolution
    assert bounds.maxy - 1.01 * resolution < y[1] <= bounds.maxy + slack
    text = template_files.template_text("sentinel-2-l2a-monthly")
    made = template_files.filled(text, id_="a", crs=name, resolution=resolution, bounds=bounds, chunk=512)
    assert parse_collection(made, "a.toml").grid.crs == crs


# add --from

FROM = ("collections", "add", "--from")


@pytest.fixture
def dems(alone):
    """A folder of one file, and its path in the user's folder once it is added."""
    (alone / "dems").mkdir()
    with rasterio.open(
        alone / "dems" / "a.tif", "w", driver="GTiff", count=1, width=200, height=100, nodata=-9999,
        dtype="float32", crs="EPSG:32633", transform=Affine(10, 0, 400_000, 0, -10, 5_201_000),
    ) as made:  # fmt: skip
        made.write(np.full((1, 100, 200), 7, dtype="float32"))
        made.descriptions = ("height",)
    return alone / "icehouse" / "collections" / "dems.toml"


def test_a_folder_is_added_and_one_chunk_of_it_read(ask, dems):
    code, out, err = ask(*FROM, "dems")
    assert (code, err) == (0, "")
    spec = parse_collection(dems.read_text(), "dems.toml")
    assert (spec.id, spec.grid.shape, spec.bands[0].name) == ("dems", (100, 200), "height")
    for word in (str(dems), "200 x 100", "license", "100.0%", "7 to 7", "started again"):
        assert word in out


def test_what_is_added_goes_where_it_is_wanted(ask, dems, alone):
    code, out, err = ask(*FROM, "dems", "--output", "-", "--id", "lake", "--chunk", "64")
    assert code == 0
    assert "license" in err
    spec = parse_collection(out, "lake.toml")
    assert (spec.id, spec.grid.chunk) == ("lake", 64)
    assert not dems.exists()
    assert ask(*FROM, "dems", "--output", "mine.toml", "--no-check")[0] == 0
    assert parse_collection((alone / "mine.toml").read_text(), "mine.toml").id == "dems"
    code, _, err = ask(*FROM, "dems", "--output", "mine.toml")
    assert code == 1
    assert "--force" in err
    assert ask(*FROM, "dems", "--output", "mine.toml", "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ["name of a template", "--from"]),
        (("sentinel-2-l2a-monthly", "--from", "dems"), ["either"]),
        (("sentinel-2-l2a-monthly", "--crs", "EPSG:32633"), ["--bbox, --resolution"]),
        (("--from", "./nothing"), ["--from", "there is no folder"]),
        (("--from", "what is this"), ["what is this", "is not a folder"]),
        (("--from", "dems", "--crs", "EPSG:3413"), ["--resolution", "EPSG:32633"]),
        (("--from", "dems", "--bbox", "170,10,171,11"), ["--bbox", "nothing of the source", "a.tif lies in"]),
        (("--from", "dems", "--id", "../x"), ["'../x'", "id"]),
    ],
)
def test_what_can_not_be_added_from_a_source_is_said(ask, dems, words, said):
    code, _, err = ask("collections", "add", *words)
    assert code == 1
    for word in said:
        assert word in err
    assert "Traceback" not in err
    assert not dems.parent.exists()


def test_a_stac_collection_is_added_and_one_chunk_of_it_read(ask, alone):
    url = "https://stac.pgc.umn.edu/api/v1/collections/arcticdem-mosaics-v4.1-32m"
    code, out, err = ask(*FROM, url, "--id", "lena", "--bbox", "150.5,65.05,150.6,65.1", "--chunk", "64")
    assert (code, err) == (0, "")
    spec = parse_collection((alone / "icehouse" / "collections" / "lena.toml").read_text(), "lena.toml")
    assert spec.grid.crs == CRS("EPSG:3413")
    assert (spec.license, spec.bands[0].name, spec.bands[0].nodata) == ("CC-BY-4.0", "dem", -9999)
    assert "from 1 items: 67_33_32m_v4.1" in out
    assert "float32" in out


def test_an_earth_engine_asset_is_added_and_one_chunk_read(ask, alone, earth_engine, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ICEHOUSE_EARTHENGINE_URL", earth_engine.url)
    monkeypatch.setenv("ICEHOUSE_EARTHENGINE_CREDENTIALS", "none")
    monkeypatch.setenv("ICEHOUSE_EARTHENGINE_PROJECT", "any-project")
    grid = ("--crs", "EPSG:32632", "--resolution", "30", "--bbox", "11.0,47.0,11.02,47.02")
    code, out, err = ask(*FROM, "USGS/SRTMGL1_003", *grid)
    assert (code, err) == (0, "")
    path = alone / "icehouse" / "collections" / "usgs-srtmgl1_003.toml"
    spec = parse_collection(path.read_text(), "x.toml")
    assert (spec.source_type, spec.source["image"]) == ("earthengine", "USGS/SRTMGL1_003")
    assert (spec.grid.crs, spec.bands[0].dtype.name) == (CRS("EPSG:32632"), "int16")
    for word in ("licence", "developers.google.com", "1595"):
        assert word in out
