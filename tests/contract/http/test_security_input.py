"""Rules 1, 3, 7 and 8 of reliability.md 1.1: what a request may name, and what the largest may cost.

The rules of the other parts are in `test_security.py`, those of ordinary nonsense in
`test_nonsense.py`.
"""

from __future__ import annotations

import http.client
import json
import os
import string
from contextlib import closing

import pydantic
import pytest
import shapely
from odc.geo.crs import CRS

from icehouse_server.api.parameters import polygons
from icehouse_server.api.parameters.coverage import CoverageBody
from icehouse_server.api.routes.points import PointsBody
from icehouse_server.collections import read_collections

JSON = {"content-type": "application/json"}
GEOBOX = {
    "proj:code": "EPSG:3413",
    "proj:transform": [32, 0, -712_000, 0, -32, 2_650_000],
    "proj:shape": [8, 8],
}

# Rule 8: names in paths

NAMES = [
    "..",
    "%2e%2e",
    "%252e%252e",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "%2fetc%2fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "%5c%5chost%5cshare",
    "%00",
    "arcticdem-32m%00",
    "arcticdem-32m%0a",
    "arcticdem-32m%20",
    "arcticdem-32m.",
    "arcticdem-32m%2f",
    "arcticdem-32m%2f..%2farcticdem-32m",
    "arcticdem-32m;x=1",
    "ARCTICDEM-32M",
    "%61rcticdem-32%6D%61",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8F",  # full-width dots and slash
    "arcticdem%E2%80%9032m",  # another hyphen
    "%D0%B0rcticdem-32m",  # a Cyrillic a
    "%c0%ae%c0%ae%c0%af",  # overlong UTF-8
    "%ff%fe",
    "%u002e",
    "%",
    "a" * 8000,
    "file:%2f%2f%2fetc%2fpasswd",
    "%2fvsicurl%2fhttp:%2f%2f127.0.0.1%2fx.tif",
    "%1b%5b31m",
    "%27%3B%20DROP%20TABLE%20notes%3B--",
    "~root",
    "$%7BHOME%7D",
]


@pytest.fixture(scope="module")
def routes(daemon):
    """(method, path) of every route with a name in its path."""
    described = daemon.http.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), path) for path, methods in described.items() if "{" in path for method in methods
    ]


def filled(path, name):
    """The path with one parameter after the other bad and the others good."""
    words = {"collection": "arcticdem-32m", "suffix": "tif", "tms": "WebMercatorQuad", "y": "0"}
    numbers = dict.fromkeys(("z", "x", "row", "col"), "0")
    good = {**words, **numbers, **dict.fromkeys(("id", "job", "key", "path"), "x")}
    for _, parameter, *_ in string.Formatter().parse(path):
        if parameter is not None:
            yield path.format_map({**good, parameter: name})


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:40])
def test_rule_8_a_name_in_a_path_leads_nowhere_else(daemon, routes, name):
    assert len(routes) >= 8
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    with closing(connection):
        ask_all(connection, daemon, routes, name)


def ask_all(connection, daemon, routes, name):
    for method, path in routes:
        for target in filled(path, name):
            connection.request(method, target, body=b"{}" if method == "POST" else None, headers=JSON)
            answer = connection.getresponse()
            body = answer.read()
            assert 400 <= answer.status < 500, (method, target, answer.status, body[:200])
            assert answer.headers["content-type"] == "application/problem+json"
            assert b"root:" not in body
            assert str(daemon.cache_dir).encode() not in body
            if answer.getheader("connection") == "close":
                connection.close()


def test_rule_8_nothing_was_made_by_these_names(daemon):
    made = {entry.name for entry in (daemon.cache_dir / "collections").iterdir()}
    assert made <= set(read_collections(None))


# Rules 3 and 7: a CRS that is a file

SPHERE = 'SPHEROID["s",6378137,298.257223563]'
WGS84 = (
    'GEOGCRS["WGS 84",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],CS[ellipsoidal,2],AXIS["lat",north],AXIS["lon",east],'
    'ANGLEUNIT["degree",0.0174532925199433]]'
)
OWN = WGS84.replace("WGS 84", "own").replace("World Geodetic System 1984", "own")
DEGREES = 'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]'
WKTS = {
    "grids of a datum": f'GEOGCS["x",DATUM["d",{SPHERE},EXTENSION["PROJ4_GRIDS","FILE"]],{DEGREES}]',
    "in lower case": f'GEOGCS["x",DATUM["d",{SPHERE},extension ["PROJ4_GRIDS","FILE"]],{DEGREES}]',
    "in parentheses": f'GEOGCS["x",DATUM["d",{SPHERE},EXTENSION("PROJ4_GRIDS","FILE")],{DEGREES}]',
    "a PROJ string": f'PROJCS["x",GEOGCS["y",DATUM["d",{SPHERE}],{DEGREES}],PROJECTION["Mercator_1SP"],'
    'UNIT["metre",1],EXTENSION["PROJ4","+proj=merc +ellps=GRS80 +nadgrids=FILE +units=m +no_defs"]]',
    "a parameter file": f"BOUNDCRS[SOURCECRS[{OWN}],TARGETCRS[{WGS84}],"
    'ABRIDGEDTRANSFORMATION["t",METHOD["NTv2",ID["EPSG",9615]],'
    'PARAMETERFILE["Latitude and longitude difference file","FILE"]]]',
    "a pipeline": f"BOUNDCRS[SOURCECRS[{OWN}],TARGETCRS[{WGS84}],ABRIDGEDTRANSFORMATION["
    '"t",METHOD["PROJ-based operation method: +proj=pipeline +step +proj=hgridshift +grids=FILE"]]]',
}


@pytest.mark.parametrize("name", WKTS)
def test_rule_3_a_crs_opens_no_file(daemon, tmp_path, name):
    """PROJ opens what a WKT names; a pipe without a writer it waits for, and all that waits behind it."""
    pipe = tmp_path / "shift.gsb"
    os.mkfifo(pipe)
    body = {
        **GEOBOX,
        "proj:code": None,
        "proj:wkt2": WKTS[name].replace('FILE"', f'{pipe}"').replace("=FILE", f"={pipe}"),
    }
    for rest in ("plan", "coverage"):
        answer = daemon.http.post(daemon.path(rest), json=body, timeout=20)
        assert answer.status_code == 422
        assert answer.json()["parameter"] == "proj:wkt2"


SHIFTED = (
    f"BOUNDCRS[SOURCECRS[{OWN}],TARGETCRS[{WGS84}],ABRIDGEDTRANSFORMATION["
    '"t",METHOD["Geocentric translations (geog2D domain)",ID["EPSG",9603]],'
    'PARAMETER["X-axis translation",1],PARAMETER["Y-axis translation",1],PARAMETER["Z-axis translation",1]]]'
)


@pytest.mark.parametrize("wkt", [WGS84, SHIFTED], ids=["plain", "shifted"])
def test_rule_3_an_ordinary_wkt_is_read(daemon, wkt):
    box = {"proj:wkt2": wkt, "proj:transform": [0.001, 0, 150, 0, -0.001, 65], "proj:shape": [4, 4]}
    assert daemon.post("plan", box).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "/vsicurl/http://127.0.0.1:1/x.prj",
        "/vsizip//etc/passwd",
        "http://127.0.0.1:1/crs",
        "https://spatialreference.org/ref/epsg/3413/",
        "file:///etc/passwd",
        "+proj=pipeline +step +proj=hgridshift +grids=/etc/passwd",
        "+proj=longlat +nadgrids=/etc/passwd",
        "+init=/etc/passwd:1",
        "IGNF:/etc/passwd",
        "EPSG:3413+EPSG:5773",
        "urn:ogc:def:crs,crs:EPSG::3413,crs:EPSG::5773",
        "[EPSG:3413](EPSG:3413)",
        '{"type": "GeographicCRS"}',
        "EPSG:" + "9" * 5000,
        "ESRI:../../../../etc/passwd",
    ],
)
def test_rule_3_a_crs_is_a_code(daemon, text):
    for parameter in ("crs", "bbox-crs"):
        query = {"bbox": "150,65,150.02,65.01", parameter: text}
        answer = daemon.http.get(daemon.path("plan"), params=query)
        assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)
    answer = daemon.post("plan", {**GEOBOX, "proj:code": text})
    assert (answer.status_code, answer.json()["parameter"]) == (422, "proj:code")


# Rules 1 and 13: what the largest body may cost


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (CoverageBody, {f"a{number}": 1 for number in range(100_000)}),
        (CoverageBody, {"bands": [1] * 500_000}),
        (CoverageBody, {"bands": ["x"] * 500_000}),
        (CoverageBody, {"proj:shape": ["x"] * 200_000}),
        (CoverageBody, {"proj:transform": [0] * 500_000}),
        (CoverageBody, {"resampling": {str(number): 1 for number in range(90_000)}}),
        (PointsBody, {"points": [["x", "y"]] * 100_000}),
        (PointsBody, {"points": [], "bands": [1] * 500_000}),
    ],
    ids=lambda part: str(part)[:24],
)
def test_rule_1_a_wide_body_is_refused_in_one_go(model, body):
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(body)
    assert caught.value.error_count() <= 2


@pytest.mark.parametrize(
    "content", [b'{"bands":[' + b"1," * 500_000 + b"1]}", b"[" * 1_000_000], ids=["wide", "deep"]
)
def test_rule_1_a_body_of_a_mebibyte_of_nonsense(daemon, content):
    answer = daemon.http.post(daemon.path("plan"), content=content, headers=JSON)
    assert (answer.status_code, answer.json()["kind"]) == (422, "bad-body")


@pytest.mark.parametrize("depth", [100, 900, 2000, 100_000])
def test_rule_1_a_geometry_that_nests(daemon, depth):
    nested = "[" * depth + "]" * depth
    for inner in (f'"coordinates":{nested}', f'"coordinates":[[[0,0],[1,0],[1,1],[0,0]]],"x":{nested}'):
        content = f'{{"geometry":{{"type":"Polygon",{inner}}}}}'
        answer = daemon.http.post(daemon.path("plan"), content=content, headers=JSON)
        assert answer.status_code in {200, 204, 422}, answer.text


def comb(teeth):
    """A polygon of long parallel teeth: each edge's box meets all others', the dearest that GEOS can get."""
    ring = []
    for number in range(teeth):
        x = 150 + number * 2e-6
        ring += [[x, 65], [x + 0.4, 65.4], [x + 0.4 + 1e-6, 65.4], [x + 1e-6, 65]]
    ring = [[round(x, 7), y] for x, y in [*ring, [150.95, 64.9], [150, 64.9]]]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def test_rule_1_a_polygon_of_too_many_vertices(daemon):
    content = json.dumps({"geometry": comb(6000)}).encode()
    assert len(content) < 2**20
    answer = daemon.http.post(daemon.path("plan"), content=content, headers=JSON)
    document = answer.json()
    assert (answer.status_code, document["kind"]) == (413, "too-large")
    assert document["asked"] > document["limit"] == 20_000


def test_rule_1_a_million_vertices_are_not_read(daemon):
    content = b'{"geometry":{"type":"Polygon","coordinates":[[' + b"[1,2]," * 1_000_000 + b"[1,2]]]}}"
    assert daemon.http.post(daemon.path("plan"), content=content, headers=JSON).status_code == 413


def test_rule_1_a_polygon_is_cut_ring_by_ring(monkeypatch):
    """Of a polygon that it cuts, GEOS looks whether its edges cross: minutes for a comb of a MiB."""
    cut, real = [], shapely.segmentize
    monkeypatch.setattr(shapely, "segmentize", lambda shape, step: cut.append(shape) or real(shape, step))
    holed = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(1, 1), (2, 1), (2, 2)]])
    moved = polygons.project(shapely.MultiPolygon([holed, shapely.box(20, 20, 21, 21)]), CRS("EPSG:3857"))
    assert [shape.geom_type for shape in cut] == ["LinearRing"] * 3
    assert moved.is_valid
    assert [len(part.interiors) for part in moved.geoms] == [1, 0]


@pytest.mark.parametrize(
    "value",
    ["1" + "0" * 30, "1" + "0" * 400, "9223372036854775808", "-9223372036854775809", "4294967297", "1e30"],
)
def test_rule_1_no_number_runs_over(daemon, value):
    for name in ("width", "height"):
        query = {"bbox": "150,65,150.02,65.01", name: value}
        answer = daemon.http.get(daemon.path("coverage"), params=query)
        assert (answer.status_code, answer.json()["parameter"]) == (400, name)
    content = json.dumps({**GEOBOX, "proj:shape": "X"}).replace('"X"', f"[{value}, 1]")
    answer = daemon.http.post(daemon.path("coverage"), content=content, headers=JSON)
    assert answer.status_code == 422
