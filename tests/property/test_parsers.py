"""Parsers under random text: the typed error that names the parameter, or a value that can be written again.

Most examples are valid ones with a few wounds: pure noise would not come past the first check.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from importlib import resources

import pytest
import shapely
from hypothesis import assume, example, given, target
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pydantic import ValidationError

from icehouse_server import output
from icehouse_server.api.parameters import polygons
from icehouse_server.api.parameters.bands import SCHEMA as BANDS
from icehouse_server.api.parameters.bands import parse_bands, parse_resampling
from icehouse_server.api.parameters.bbox import SCHEMA as BBOX
from icehouse_server.api.parameters.bbox import parse_bbox
from icehouse_server.api.parameters.coverage import CoverageBody, CoverageQuery
from icehouse_server.api.parameters.crs import SCHEMA as CRS
from icehouse_server.api.parameters.crs import parse_crs
from icehouse_server.api.parameters.formats import COVERAGES, choose_format
from icehouse_server.api.parameters.numbers import parse_numbers
from icehouse_server.api.parameters.size import CELLS, RESOLUTION, parse_cells, parse_resolution
from icehouse_server.api.parameters.snapshot import SCHEMA as SNAPSHOT
from icehouse_server.api.parameters.snapshot import parse_snapshot
from icehouse_server.api.responses.streaming import PartsResponse
from icehouse_server.api.routes.coverage import crs_uri
from icehouse_server.api.routes.points import PointsBody
from icehouse_server.collections import loader
from icehouse_server.core.collection import RESAMPLINGS
from icehouse_server.core.errors import (
    BadBodyError,
    BadParameterError,
    NotAcceptableError,
    OutsideError,
    TooLargeError,
    UnknownBandError,
)
from icehouse_server.core.grid import ChunkKey

LONGEST = 400
"""Characters of a detail: the values that it repeats are shortened."""

ODD = [
    "", " ", "\x00", "\ud800", "\udfff", "\u0663", "\uff11", "\uff0c", "NaN", "nan", "Infinity", "-inf",
    "-0.0", "0", "1e400", "1e-400", "5e-324", "1.7976931348623157e308", "9" * 400, "1_0", "0x1", "+", "-",
    ".", "e", "E5", "\n", "\r\n", "\u2028", "%2C", "null", "true", "EPSG", ":", "[", "]", "/", "..", "dem",
    "a" * 3000, "\U0001f4a5", "e\u0301", "\ufeff",
]  # fmt: skip


@st.composite
def wounded(draw, *valid):
    """A valid text with up to four wounds, or pieces of it with odd ones, or any text at all."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.text(st.characters(), max_size=40))
    if kind == 1:
        pieces = st.sampled_from([*ODD, *(part for text in valid for part in re.split("([,:/])", text))])
        return "".join(draw(st.lists(pieces, max_size=8)))
    text = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 3)))
        text = text[:start] + draw(st.sampled_from(ODD) | st.just(text[start:stop] * 2)) + text[stop:]
    return text


@pytest.fixture(scope="module")
def spec():
    text = (resources.files("icehouse_server.collections") / "builtin" / "arcticdem-32m.toml").read_text()
    return loader.parse_collection(text, "arcticdem-32m.toml")


def attempt(parse, *parameters, errors=(BadParameterError,)):
    """What a parser makes of a text; None where it refuses in the one way that it may."""
    try:
        return parse()
    except errors as refused:
        error = refused
    assert len(error.detail) < LONGEST, error.detail
    assert not re.search("[\ud800-\udfff\x00\n]", error.detail), "it can't be sent, or breaks a line"
    if isinstance(error, BadParameterError):
        assert error.parameter in parameters
        assert error.detail.startswith(error.parameter)
    return None


def matches(schema, text):
    """Whether the API description allows a text."""
    return re.fullmatch(schema["pattern"].removeprefix("^").removesuffix("$"), text) is not None


NUMBERS = ("1", "-1.5", "+.5", "1e3", "0.1,2", "150,65,151,65.5", " 1 , 2 , 3 , 4 ", "1.,.2,3E+1,4e-1")


@given(wounded(*NUMBERS))
@example("1e400,0,0,0")
@example("\uff19,1,2,3")
def test_numbers(text):
    numbers = attempt(lambda: parse_numbers(text, "bbox", (1, 2, 4)), "bbox")
    if numbers is None:
        return
    assert len(numbers) in {1, 2, 4}
    assert all(map(math.isfinite, numbers))
    assert parse_numbers(",".join(map(repr, numbers)), "bbox", (len(numbers),)) == numbers
    assert len(numbers) != 4 or matches(BBOX, text)
    assert len(numbers) == 4 or matches(RESOLUTION, text)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_every_finite_number_is_read_as_it_is(numbers):
    text = ",".join(map(repr, numbers))
    assert parse_numbers(text, "bbox", (4,)) == numbers
    assert matches(BBOX, text)


@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:3413"])
@given(text=wounded(*NUMBERS[-3:], "179,70,-179,71", "-180,-90,180,90"))
def test_bbox(code, text):
    crs = parse_crs(code, "crs")
    bounds = attempt(lambda: parse_bbox(text, crs), "bbox")
    if bounds is None:
        return
    assert bounds.south < bounds.north
    assert bounds.west < bounds.east
    if crs.geographic:
        assert -180 <= bounds.west <= 180
        assert bounds.south >= -90
        assert bounds.north <= 90
        assert bounds.east - bounds.west <= 360
    east = bounds.east - 360 if crs.geographic and bounds.east > 180 else bounds.east
    again = parse_bbox(f"{bounds.west!r},{bounds.south!r},{east!r},{bounds.north!r}", crs)
    assert (again.west, again.south, again.north) == (bounds.west, bounds.south, bounds.north)
    assert again.east == pytest.approx(bounds.east, abs=1e-9)


CODES = (
    "EPSG:3413", "[EPSG:3413]", "epsg:4326", "CRS84", "OGC:CRS84", "[OGC:CRS84]", "ESRI:102018",
    "IAU_2015:49900",
    "http://www.opengis.net/def/crs/EPSG/0/3413", "https://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "urn:ogc:def:crs:EPSG::3413", "urn:ogc:def:crs:OGC:1.3:CRS84",
)  # fmt: skip


@given(wounded(*CODES))
def test_crs(text):
    crs = attempt(lambda: parse_crs(text, "crs"), "crs")
    if crs is None:
        return
    authority, code = crs.authority
    for other in (
        crs_uri(crs),
        f"{authority}:{code}",
        f"[{authority}:{code}]",
        f"urn:ogc:def:crs:{authority}::{code}",
    ):
        assert parse_crs(other, "crs") == crs
        assert matches(CRS, other)
    assert matches(CRS, text) or text.lower().startswith("urn:")


@given(wounded("1", "256", "1000000", "0001", "0", "1000001"))
def test_cells(text):
    cells = attempt(lambda: parse_cells(text, "width"), "width")
    if cells is not None:
        assert CELLS["minimum"] <= cells <= CELLS["maximum"]
        assert parse_cells(str(cells), "width") == cells


@given(wounded("1", "32", "1,2", "1e-300", "0", "-1", "0.5, 2"))
def test_resolution(text):
    sizes = attempt(lambda: parse_resolution(text), "resolution")
    if sizes is not None:
        assert min(sizes) > 0
        assert parse_resolution(f"{sizes[0]!r},{sizes[1]!r}") == sizes
        assert matches(RESOLUTION, text)


@given(text=wounded("dem", "dem,mad", " dem , count ", "DEM", "nope"))
def test_bands(spec, text):
    names = attempt(lambda: parse_bands(text, "properties"), "properties")
    if names is None:
        return
    assert parse_bands(",".join(names), "properties") == names
    bands = attempt(lambda: spec.select(names), errors=UnknownBandError)
    assert bands is None or [band.name for band in bands] == names
    assert bands is None or matches(BANDS, text)


@given(text=wounded(*RESAMPLINGS[:4], "Nearest"))
def test_resampling(spec, text):
    table = attempt(lambda: parse_resampling(text, spec), "resampling")
    assert table is None or set(table.values()) == {text} <= set(RESAMPLINGS)


@given(wounded("main", "1CECHNKREP0F1RSTCMT0", "a.b-c_d", "../etc"))
def test_snapshot(text):
    assert attempt(lambda: parse_snapshot(text), "snapshot") in {None, text}
    assert (attempt(lambda: parse_snapshot(text), "snapshot") == text) == matches(SNAPSHOT, text)


ACCEPTS = ("*/*", "image/tiff", "image/png;q=0.5, */*;q=0.1", "application/x-netcdf;q=0", "text/html")


@given(f=st.none() | wounded(*output.FORMATS), accept=st.none() | wounded(*ACCEPTS))
@example(f=None, accept="image/png;q=nan")
@example(f=None, accept="image/png;q=1e400, image/tiff;q=-1")
def test_format(f, accept):
    name = attempt(
        lambda: choose_format(COVERAGES, f, accept), "f", errors=(BadParameterError, NotAcceptableError)
    )
    assert name is None or name in output.FORMATS
    assert f is None or name in {None, f}


@given(st.sampled_from(list(output.FORMATS)), st.floats(0.01, 1), st.floats(0, 0.009))
def test_a_media_type_that_is_wanted_most_is_given(name, most, least):
    accept = f"*/*;q={least:.4f}, {output.FORMATS[name].media_type.partition(';')[0]};q={most:.4f}"
    assert choose_format(COVERAGES, None, accept) == name


QUERY = {
    "bbox": ("150,65,151,65.5", "179,70,-179,71", "-180,60,180,90"),
    "bbox_crs": CODES,
    "crs": CODES,
    "width": ("1", "256", "1000000"),
    "height": ("1", "256"),
    "resolution": ("32", "0.001,100", "1e300", "1e-300"),
    "properties": ("dem", "dem,mad"),
    "bands": ("dem",),
    "datetime": ("2020-01-01", "2020-01-01/..", "../.."),
    "resampling": ("bilinear",),
    "snapshot": ("main",),
}


@given(query=st.fixed_dictionaries({}, optional={name: wounded(*valid) for name, valid in QUERY.items()}))
def test_a_query_as_a_whole(spec, query):
    names = {name.replace("_", "-") for name in query} | {"resolution", "bbox", "bands"}
    asked = attempt(
        lambda: CoverageQuery(**query).coverage_request(spec),
        *names,
        errors=(BadParameterError, UnknownBandError, OutsideError),
    )
    if asked is None:
        return
    geobox = asked.region.target
    assert min(geobox.shape) >= 1
    assert all(map(math.isfinite, geobox.affine))
    assert "resolution" in query or max(geobox.shape) <= 10**9
    assert "datetime" not in query


# Bodies

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.sampled_from([10**400, -0.0, 1e308, "NaN", "\ud800", "dem", "EPSG:3413", "x" * 5000])
    | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def wounded_json(draw, *valid):
    """A valid document in which up to three nodes are others, gone, or twice there."""
    document = json.loads(json.dumps(draw(st.sampled_from(valid))))
    for _ in range(draw(st.integers(0, 3))):
        holder, place = draw(st.sampled_from(list(_places(document))))
        match draw(st.integers(0, 3)):
            case 0 if isinstance(holder, list):
                holder.insert(place, holder[place])
            case 1:
                del holder[place]
            case _:
                holder[place] = draw(JSON)
        if not document:
            break
    return document


def _places(node):
    """(container, key) of every node of a document."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list) and value:
            yield from _places(value)


RING = [[150.0, 65.0], [150.06, 65.005], [150.03, 65.03], [150.0, 65.0]]
HOLE = [[150.02, 65.005], [150.03, 65.01], [150.03, 65.006], [150.02, 65.005]]
POLYGON = {"type": "Polygon", "coordinates": [RING, HOLE]}
GEOMETRIES = (
    POLYGON,
    {"type": "MultiPolygon", "coordinates": [[RING], [[[x + 1, y, 7] for x, y in RING]]]},
    {"type": "Feature", "properties": {}, "geometry": POLYGON},
    {"type": "GeometryCollection", "geometries": [POLYGON]},
)


@given(wounded_json(*GEOMETRIES))
def test_geometry(document):
    polygon = attempt(lambda: polygons.parse(document), "geometry", errors=(BadBodyError, TooLargeError))
    if polygon is None:
        return
    west, south, east, north = polygon.bounds
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    assert polygon.area > 0
    assert polygons.parse(shapely.geometry.mapping(polygon)).equals_exact(polygon)


@given(wounded_json(*GEOMETRIES), st.sampled_from(["EPSG:3413", "EPSG:4326", "EPSG:3031", "EPSG:3857"]))
def test_a_geometry_has_a_place_or_none(document, code):
    crs = parse_crs(code, "crs")
    both = (BadBodyError, TooLargeError)
    polygon = attempt(lambda: polygons.project(polygons.parse(document), crs), "geometry", errors=both)
    assert polygon is None or all(map(math.isfinite, polygon.bounds))


WKT = parse_crs("EPSG:3413", "crs").to_wkt()
BODIES = (
    {"proj:code": "EPSG:3413", "proj:transform": [32, 0, -712064, 0, -32, 2650080], "proj:shape": [96, 96]},
    {
        "proj:wkt2": WKT,
        "proj:transform": [32, 0, 0, 0, -32, 0, 0, 0, 1],
        "proj:shape": [1, 2],
        "bands": ["dem"],
    },
    {"geometry": POLYGON, "crs": "EPSG:4326", "resolution": 0.001, "resampling": {"dem": "nearest"}},
    {
        "geometry": POLYGON,
        "bands": ["dem", "mad"],
        "fail_on_error": False,
        "snapshot": "main",
        "datetime": "x",
    },
)
MEMBERS = {field.alias or name for name, field in CoverageBody.model_fields.items()}


@given(document=wounded_json(*BODIES))
def test_a_body_as_a_whole(spec, document):
    try:
        body = CoverageBody.model_validate(document)
    except ValidationError:
        return  # the edge's own: a problem document by `_on_validation`
    errors = (BadBodyError, UnknownBandError, OutsideError, TooLargeError)
    asked = attempt(lambda: body._ask(spec), *MEMBERS, errors=errors)
    if asked is None:
        return
    if body.transform is not None:
        geobox = asked.region.target
        assert geobox == GeoBox(tuple(body.shape), geobox.affine, geobox.crs)
        assert list(geobox.affine)[:6] == body.transform[:6]
    target(float(len(document)), label="members of what is accepted")


@given(document=wounded_json({"points": [[150, 65], [1.5, 2]], "crs": "CRS84", "bands": ["dem"]}))
def test_points(document):
    try:
        body = PointsBody.model_validate(document)
    except ValidationError:
        return
    assert all(math.isfinite(number) for point in body.points for number in point)
    assert [list(point) for point in body.points] == document["points"]


# Ranges

DATA = bytes(range(100))


def answer_to(headers):
    """(status, headers, body) of an answer of a hundred bytes."""
    sent = []

    async def send(message):
        sent.append(message)

    response = PartsResponse(
        [DATA[:7], memoryview(DATA)[7:]],
        length=100,
        media_type="x/y",
        headers={"ETag": '"tag"'},
        on_end=lambda: None,
    )
    scope = {"type": "http", "method": "GET", "headers": headers}
    asyncio.run(response(scope, None, send))
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:])


RANGES = (
    "bytes=0-15",
    "bytes=50-",
    "bytes=-20",
    "bytes=99-99",
    "bytes=100-",
    "bytes=-0",
    "bytes=5-1",
    "bytes=0-1,5-6",
)


@given(wounded(*RANGES), st.none() | wounded('"tag"', 'W/"tag"', "Sun, 22 Nov 2026 16:00:00 GMT"))
@example("bytes=٣-٤", None)
@example("bytes=0-" + "9" * 30, None)
def test_a_range_is_a_slice_or_is_passed_over(text, condition):
    assume(text.isprintable() and (condition or "").isprintable())
    headers = [(b"range", text.encode("latin-1", "replace"))]
    if condition is not None:
        headers.append((b"if-range", condition.encode("latin-1", "replace")))
    status, head, body = answer_to(headers)
    if status == 200:
        assert body == DATA
    elif status == 206:
        first, last = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/100", head["content-range"]).groups())
        assert 0 <= first <= last <= 99
        assert body == DATA[first : last + 1]
        assert int(head["content-length"]) == len(body)
        assert condition in {None, '"tag"'}
    else:
        assert status == 416
        assert head["content-range"] == "bytes */100"
        assert json.loads(body)["kind"] == "range-not-satisfiable"


@given(st.integers(0, 99), st.integers(0, 10**17))
def test_a_good_range_is_met(first, more):
    status, _, body = answer_to([(b"range", f"bytes={first}-{first + more}".encode())])
    assert (status, body) == (206, DATA[first : first + more + 1])


# Chunk keys

KEYS = st.builds(
    ChunkKey,
    collection=st.just("tiny"),
    level=st.integers(0, 30),
    band=st.from_regex(r"\A[A-Za-z][A-Za-z0-9_]{0,8}\Z"),
    time=st.none() | st.integers(0, 10**6),
    row=st.integers(0, 10**9),
    col=st.integers(0, 10**9),
)


@given(KEYS, KEYS)
def test_a_chunks_path_is_its_own_and_is_read_again(key, other):
    assert ChunkKey.from_path("tiny", key.path) == key
    assert (key.path == other.path) == (key == other)
    assert re.fullmatch("[A-Za-z0-9_/]+", key.path)


@given(wounded("dem/c/120/7", "3/dem/c/1/0", "dem/c/5/1/0", "2/dem/c/5/1/0"))
@example("dem/c/٣/1")
@example("dem/c/007/1")
@example("dem/c/" + "9" * 5000 + "/1")
def test_a_path_that_is_read_is_the_path_of_its_key(text):
    try:
        key = ChunkKey.from_path("tiny", text)
    except ValueError:
        return
    assert key.path == text
