"""Collection files: what is said of a wrong one, and what the built-in ones hold."""

from __future__ import annotations

import re
import tomllib

import pytest
from affine import Affine

from icehouse_server.collections import read_collections
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.time import TimeStep, parse_moment

GOOD = """
id = "lake"
title = "A lake"

[grid]
crs = "EPSG:3413"
resolution = 10
bounds = [0, 0, 1000, 500]
chunk = 64

[extent]
bbox = [-50, 60, -40, 70]
interval = ["2020-01-01T00:00:00Z", ".."]

[source]
type = "stac"
api = "https://example.org/"

[[bands]]
name = "ice"
dtype = "int16"
nodata = -1
[bands.source]
asset = "a"
"""


def change(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def refusal(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_collection(text, "lake.toml")
    assert "lake.toml" in caught.value.detail
    return caught.value


def test_a_good_file_is_what_it_says():
    spec = parse_collection(GOOD, "lake.toml")
    assert spec.id == "lake"
    assert spec.grid.shape == (50, 100)
    assert spec.grid.geobox.affine == Affine(10, 0, 0, 0, -10, 500)
    assert spec.grid.chunk == 64
    assert spec.interval == ("2020-01-01T00:00:00Z", None)
    assert spec.default_bands == ("ice",)
    assert spec.source == {"api": "https://example.org/"}
    assert spec.bands[0].nodata == -1
    assert spec.bands[0].source == {"asset": "a"}


EXTENT = GOOD[GOOD.index("[extent]") : GOOD.index("[source]")]


@pytest.mark.parametrize(
    "extent", ["", "[extent]\n", '[extent]\ninterval = ["2020-01-01T00:00:00Z", ".."]\n']
)
def test_an_extent_that_is_left_out_is_the_grids(extent):
    spec = parse_collection(change(EXTENT, extent), "lake.toml")
    assert spec.bbox == pytest.approx((45, 89.989679, 135, 90), abs=1e-6)
    assert spec.interval[1] is None


def test_an_extent_that_does_not_follow_from_the_grid_is_asked_for():
    moon = "+proj=longlat +R=1737400 +no_defs"
    error = refusal(change(EXTENT, "").replace('"EPSG:3413"', f'"{moon}"').replace("1000, 500", "100, 50"))
    assert "extent.bbox" in error.detail


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param("title =", "titel =", ["titel", "title"], id="unknown key"),
        pytest.param("chunk = 64", "chunks = 64", ["grid.chunks", "grid.chunk"], id="unknown key of a table"),
        pytest.param('dtype = "int16"', 'dtyp = "int16"', ["bands", "dtyp"], id="unknown key of a band"),
        pytest.param('title = "A lake"\n', "", ["title", "missing"], id="missing"),
        pytest.param('crs = "EPSG:3413"\n', "", ["grid.crs", "missing"], id="missing in a table"),
        pytest.param('dtype = "int16"\n', "", ["bands", "dtype", "missing"], id="missing in a band"),
        pytest.param('type = "stac"\n', "", ["source.type", "missing"], id="no source type"),
        pytest.param('"int16"', '"complex64"', ["ice", "complex64", "int32"], id="dtype"),
        pytest.param('"int16"', '"float"', ["ice", "'float'", "float32"], id="dtype by another name"),
        pytest.param('"int16"', '">i2"', ["ice", ">i2", "int16"], id="foreign byte order"),
        pytest.param('"int16"', '""', ["ice", "dtype", "int16"], id="no dtype"),
        pytest.param('"int16"', '"u1,f4"', ["ice", "dtype", "int16"], id="records"),
        pytest.param('"int16"', '"nonsense"', ["ice", "nonsense", "int16"], id="no such dtype"),
        pytest.param("nodata = -1", "nodata = 40000", ["ice", "40000", "32767"], id="nodata too large"),
        pytest.param("nodata = -1", "nodata = nan", ["ice", "nan", "int16"], id="nodata not a number"),
        pytest.param("nodata = -1", "nodata = inf", ["ice", "inf", "int16"], id="nodata infinite"),
        pytest.param("nodata = -1", 'nodata = "none"', ["bands", "nodata", "none"], id="nodata a word"),
        pytest.param('name = "ice"', 'name = "x"', ["'x'", "latitude"], id="reserved name"),
        pytest.param('name = "ice"', 'name = "a/b"', ["a/b", "letters"], id="a path for a band"),
        pytest.param("1000, 500]", "1005, 500]", ["grid.bounds", "100.5"], id="half a pixel"),
        pytest.param("1000, 500]", "-1000, 500]", ["grid.bounds", "minx"], id="bounds the wrong way"),
        pytest.param("1000, 500]", "nan, 500]", ["grid.bounds"], id="bounds not a number"),
        pytest.param("1000, 500]", "1000]", ["grid.bounds"], id="three bounds"),
        pytest.param("resolution = 10", "resolution = 0", ["grid.resolution", "0"], id="resolution 0"),
        pytest.param(
            "resolution = 10", "resolution = -10", ["grid.resolution", "-10"], id="resolution below 0"
        ),
        pytest.param(
            "resolution = 10", "resolution = nan", ["grid.resolution"], id="resolution not a number"
        ),
        pytest.param("chunk = 64", "chunk = 0", ["grid.chunk", "16"], id="chunk"),
        pytest.param("EPSG:3413", "EPSG:999999", ["grid.crs", "999999", "EPSG:3413"], id="CRS"),
        pytest.param("EPSG:3413", "", ["grid.crs"], id="no CRS"),
        pytest.param("EPSG:3413", "EPSG:7415", ["grid.crs", "write", "EPSG:28992"], id="compound CRS"),
        pytest.param("EPSG:3413", "EPSG:4978", ["grid.crs", "2-D projected or geographic"], id="geocentric"),
        pytest.param("[-50, 60", "[-50, 95", ["extent.bbox", "degrees"], id="bbox"),
        pytest.param('id = "lake"', 'id = "../lake"', ["id", "../lake"], id="id up a folder"),
        pytest.param('id = "lake"', 'id = "/etc"', ["id", "/etc"], id="id absolute"),
        pytest.param('id = "lake"', 'id = "Lake"', ["id", "Lake"], id="id in capitals"),
        pytest.param('id = "lake"', 'id = ""', ["id"], id="no id"),
        pytest.param('id = "lake"', "id = 5", ["id", "5"], id="id a number"),
        pytest.param('id = "lake"', 'id = "lake', ["TOML"], id="no TOML"),
    ],
)
def test_wrong_file_error_has_file_key_and_what_is_accepted(old, new, said):
    error = refusal(change(old, new))
    for word in said:
        assert word in f"{error.detail} {error.hint}"


def test_two_bands_of_one_name_and_none_at_all():
    assert "one name" in refusal(GOOD + GOOD[GOOD.index("[[bands]]") :]).detail
    assert "bands" in refusal(GOOD[: GOOD.index("[[bands]]")]).detail
    assert "'snow'" in refusal('default_bands = ["snow"]\n' + GOOD).detail


@pytest.mark.parametrize("miss", [0.5, 0.1, 0.01])
def test_a_large_grid_must_be_whole_pixels_as_well(miss):
    """A part of a pixel is no less wrong where there are four million of them."""
    text = change("[0, 0, 1000, 500]", f"[0, 0, {10 * (4_000_000 + miss)}, 500]")
    assert "grid.bounds" in refusal(text).detail


def test_degrees_written_with_finite_digits_are_whole_pixels():
    text = change("resolution = 10", "resolution = 0.0002777777777777778").replace("EPSG:3413", "EPSG:4326")
    spec = parse_collection(text.replace("[0, 0, 1000, 500]", "[-180, -60, 180, 60]"), "lake.toml")
    assert spec.grid.shape == (432_000, 1_296_000)


def timed(table):
    return change("[source]", f"[time]\n{table}\n\n[source]")


@pytest.mark.parametrize(
    ("table", "first"),
    [
        ('start = "2017"\nperiod = "yearly"\nend = "2024"', ("2017-01-01T00:00:00Z", "2018-01-01T00:00:00Z")),
        (
            'start = 2017-01-01\nperiod = "P1M"\ndelay = "P60D"',
            ("2017-01-01T00:00:00Z", "2017-02-01T00:00:00Z"),
        ),
        (
            'start = 2017-01-01T02:00:00+02:00\nperiod = "PT6H"',
            ("2017-01-01T00:00:00Z", "2017-01-01T06:00:00Z"),
        ),
        ('steps = [["2019", "2020-01-01T12:00:00Z"]]', ("2019-01-01T00:00:00Z", "2020-01-01T12:00:00Z")),
        ("steps = [[2019-05-01, 2019-06-01], [2020-05-01, 2020-06-01]]", ("2019-05-01", "2019-06-01")),
    ],
)
def test_a_time_axis_is_what_it_says(table, first):
    axis = parse_collection(timed(table), "lake.toml").time
    start, end = map(parse_moment, first)
    assert axis.step(0) == TimeStep(start=start, end=end)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        pytest.param("", ["time", "steps", "start and period"], id="nothing"),
        pytest.param('start = "2017"', ["time", "start and period"], id="no period"),
        pytest.param('period = "P1Y"', ["time", "start and period"], id="no start"),
        pytest.param('start = "2017"\nperiod = "P1Y"\nsteps = [["1", "2"]]', ["time", "either"], id="both"),
        pytest.param('steps = [["2019", "2020"]]\nend = "2024"', ["time", "either"], id="steps and an end"),
        pytest.param(
            'start = "2017"\nperiod = "P1Y"\nends = "2024"', ["time.ends", "time.end"], id="unknown key"
        ),
        pytest.param('start = "2017"\nperiod = "1Y"', ["time.period", "'1Y'", "P16D"], id="no period at all"),
        pytest.param('start = "2017"\nperiod = "P0D"', ["time.period", "zero length"], id="an empty period"),
        pytest.param('start = "spring"\nperiod = "P1Y"', ["time.start", "'spring'", "2020-06"], id="no date"),
        pytest.param('start = 2017\nperiod = "P1Y"', ["time.start", "2017", "text"], id="a number"),
        pytest.param('start = 07:00:00\nperiod = "P1Y"', ["time.start", "text"], id="a time of day"),
        pytest.param('start = "2017"\nperiod = "P1Y"\nend = "never"', ["time.end", "'never'"], id="no end"),
        pytest.param(
            'start = "2017"\nperiod = "P1Y"\nend = "2017-06"', ["time", "single step"], id="too short"
        ),
        pytest.param(
            'start = "2017-01-31"\nperiod = "P1M"', ["time", "1 to 28"], id="the 31st of each month"
        ),
        pytest.param(
            'start = "2017"\nperiod = "P1Y"\nend = "2024"\ndelay = "P9D"', ["time.delay", "rolls"], id="delay"
        ),
        pytest.param(
            'start = "2017"\nperiod = "P1D"\ndelay = "P1M"', ["time.delay", "P60D"], id="delay in months"
        ),
        pytest.param(
            'start = "2017"\nperiod = "P1D"\ndelay = "later"', ["time.delay", "'later'"], id="no delay"
        ),
        pytest.param(
            'start = "2017"\nperiod = "P1D"\ndelay = "P999999D"', ["time", "delay"], id="a long delay"
        ),
        pytest.param('steps = [["2019"]]', ["time.steps"], id="half a step"),
        pytest.param('steps = [["2020", "2019"]]', ["time.steps", "before it ends"], id="backwards"),
        pytest.param('steps = [["2019", "later"]]', ["time.steps", "'later'"], id="a step without an end"),
        pytest.param('steps = [["2020", "2021"], ["2019", "2020"]]', ["time", "in order"], id="out of order"),
    ],
)
def test_a_wrong_time_axis_is_answered_with_the_key(table, said):
    error = refusal(timed(table))
    for word in said:
        assert word in f"{error.detail} {error.hint}"


def test_scale_and_offset():
    band = parse_collection(
        change("nodata = -1", "nodata = -1\nscale = 0.0001\noffset = -0.1"), "lake.toml"
    ).bands[0]
    assert (band.scale, band.offset) == (0.0001, -0.1)


@pytest.mark.parametrize(
    "key", ["scale = 0", "scale = nan", "scale = inf", "offset = inf", 'offset = "much"']
)
def test_scale_and_offset_are_numbers(key):
    error = refusal(change("nodata = -1", f"nodata = -1\n{key}"))
    assert key.partition(" ")[0] in error.detail


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def test_the_users_folder_adds_and_overrides(own):
    (own / "lake.toml").write_text(GOOD)
    (own / "mine.toml").write_text(GOOD.replace('"lake"', '"arcticdem-32m"'))
    (own / "notes.txt").write_text("no TOML here")
    found = read_collections(own)
    assert found["arcticdem-32m"].title == "A lake"
    assert {"lake", "arcticdem-2m", "arcticdem-10m"} <= set(found)


def test_two_files_of_one_id_in_the_users_folder_are_refused(own):
    (own / "a.toml").write_text(GOOD)
    (own / "b.toml").write_text(GOOD)
    with pytest.raises(ConfigurationError, match=r"b\.toml.*'lake'"):
        read_collections(own)


def test_a_wrong_file_of_the_user_is_named_with_its_folder(own):
    (own / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=re.escape(str(own / "a.toml"))):
        read_collections(own)
    (own / "a.toml").write_text(change("title =", "titel ="))
    with pytest.raises(ConfigurationError, match=re.escape(str(own / "a.toml"))):
        read_collections(own)
    with pytest.raises(ConfigurationError, match="not a folder"):
        read_collections(own / "a.toml")


def test_a_choice_of_collections_and_one_that_is_not_there(own):
    (own / "lake.toml").write_text(GOOD)
    assert list(read_collections(own, ["lake"])) == ["lake"]
    assert set(read_collections(own, ["arcticdem-2m", "lake"])) == {"arcticdem-2m", "lake"}
    with pytest.raises(ConfigurationError) as caught:
        read_collections(own, ["arcticdem-32"])
    assert "arcticdem-32" in caught.value.detail
    assert "arcticdem-32m" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "shape", "resolution", "origin"),
    [
        ("arcticdem-32m", (234_381, 231_256), 32, (-4_000_096, 4_100_096)),
        ("arcticdem-10m", (750_020, 740_020), 10, (-4_000_100, 4_100_100)),
        ("arcticdem-2m", (3_750_100, 3_700_100), 2, (-4_000_100, 4_100_100)),
        ("rema-32m", (221_881, 221_881), 32, (-3_000_096, 4_100_096)),
        ("rema-10m", (710_020, 710_020), 10, (-3_000_100, 4_100_100)),
        ("rema-2m", (3_550_100, 3_550_100), 2, (-3_000_100, 4_100_100)),
    ],
)
def test_the_built_in_collections_have_the_published_extents(name, shape, resolution, origin):
    spec = read_collections(None)[name]
    assert spec.grid.shape == shape
    assert spec.grid.geobox.affine == Affine(resolution, 0, origin[0], 0, -resolution, origin[1])
    assert spec.grid.crs.epsg == (3413 if "arctic" in name else 3031)
    assert spec.band("dem").nodata == -9999
    assert (spec.bbox[3] if "arctic" in name else -spec.bbox[1]) == 90
    assert [band.name for band in spec.bands][:5] == ["dem", "mad", "count", "mindate", "maxdate"]
    assert [band.name for band in spec.bands][5:] == (["datamask"] if "arctic" in name else [])


def test_the_test_file_is_good_toml():
    assert tomllib.loads(GOOD)["bands"][0]["name"] == "ice"


def test_a_wrong_file_of_the_users_is_set_aside(tmp_path):
    """By the id in it, or else by its name; a built-in one of that id is not served in its place."""
    (tmp_path / "a.toml").write_text('id = "arcticdem-2m"\ncolour = "blue"\n')
    (tmp_path / "no-toml.toml").write_text("= =")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    wrong = {}
    found = read_collections(tmp_path, wrong=wrong)
    assert set(wrong) == {"arcticdem-2m", "no-toml", "bytes"}
    assert set(found) == set(read_collections(None)) - {"arcticdem-2m"}
    assert "a.toml" in wrong["arcticdem-2m"].detail
    wrong = {}
    assert list(read_collections(tmp_path, ["arcticdem-32m", "bytes"], wrong)) == ["arcticdem-32m"]
    assert list(wrong) == ["bytes"]
    with pytest.raises(ConfigurationError, match="there is no collection"):
        read_collections(tmp_path, ["nowhere"], {})
