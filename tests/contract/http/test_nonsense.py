"""Nonsense in every parameter: a problem document that names it, never a 500, and the daemon stays up."""

from __future__ import annotations

import json
import math

import pytest

BBOX = "150,65,150.02,65.01"
JSON = {"content-type": "application/json"}
GEOBOX = {
    "proj:code": "EPSG:3413",
    "proj:transform": [32, 0, -712_000, 0, -32, 2_650_000],
    "proj:shape": [8, 8],
}


def check_problem(answer, status, kind, parameter=None):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["kind"] == kind
    assert document["type"] == f"urn:icehouse:problem:{kind}"
    assert document["title"]
    assert len(document["detail"]) > 10
    assert "Traceback" not in answer.text
    if parameter is not None:
        assert document["parameter"] == parameter
        assert document["detail"].startswith(parameter)
    return document


@pytest.fixture(autouse=True)
def stays_up(daemon):
    yield
    assert daemon.alive
    assert daemon.http.get("/healthz").json() == {"status": "ok"}


ANYTHING = [
    "",
    " ",
    "NaN",
    "inf",
    "-Infinity",
    "null",
    "undefined",
    "1e999",
    "9" * 500,
    "-1",
    "٣",
    "1_0",
    "0x10",
    "💥",
    "é" * 200,
    "a\x00b",
    "a\r\nSet-Cookie: b=c",
    "'; DROP TABLE chunks; --",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "/vsicurl/http://127.0.0.1/x.tif",
    "{{7*7}}",
    "%s%n",
]
TEXTUAL = ["f", "fail_on_error", "resampling", "datetime", "crs", "bbox-crs", "snapshot"]
NUMERIC = ["bbox", "width", "height", "resolution"]
UNKNOWN_NAMES = {"snapshot": "unknown-snapshot", "bands": "unknown-band", "properties": "unknown-band"}


@pytest.mark.parametrize("text", ANYTHING, ids=ascii)
@pytest.mark.parametrize("parameter", [*TEXTUAL, *NUMERIC, "bands", "properties"])
def test_nonsense_in_a_query_parameter(daemon, parameter, text):
    for rest in ("coverage", "plan") if parameter != "f" else ("coverage",):
        answer = daemon.http.get(daemon.path(rest), params={"bbox": BBOX, parameter: text})
        if answer.status_code == 404:
            check_problem(answer, 404, UNKNOWN_NAMES[parameter])
        else:
            check_problem(answer, 400, "bad-parameter", parameter)


@pytest.mark.parametrize(
    "bbox",
    [
        "150,65,151",
        "150,65,151,65.5,",
        "150,65,0,151,65.5",
        "150;65;151;65.5",
        "150,65,151,64",
        "150,65,151,65",
        "150,65,150,66",
        "150,65,151,91",
        "150,-91,151,65",
        "150,65,181,66",
        "-181,65,-180,66",
        "nan,65,151,66",
        "150,65,inf,66",
        "150,65,1e400,66",
    ],
)
def test_a_bbox_that_is_none(daemon, bbox):
    check_problem(daemon.get(bbox=bbox), 400, "bad-parameter", "bbox")


@pytest.mark.parametrize("bbox", ["1,1,0,2", "1e308,1,1.7e308,2", "0,0,1,0"])
def test_a_projected_bbox_that_is_none(daemon, bbox):
    answer = daemon.get(bbox=bbox, bbox_crs="EPSG:3413")
    if bbox.startswith("1e308"):
        assert answer.status_code == 204
    else:
        check_problem(answer, 400, "bad-parameter", "bbox")


@pytest.mark.parametrize("parameter", ["crs", "bbox-crs"])
@pytest.mark.parametrize(
    "text",
    [
        "EPSG:999999",
        "EPSG:0",
        "EPSG:",
        "EPSG",
        "[EPSG:3413",
        "EPSG:3413]",
        "epsg:3413:1",
        "urn:ogc:def:crs:EPSG::",
        "urn:ogc:def:crs",
        "urn:x-ogc:def:crs:EPSG::3413",
        "http://evil.example/def/crs/EPSG/0/3413",
        "http://www.opengis.net/def/crs/EPSG/0/",
        "+proj=longlat +datum=WGS84",
        "+init=epsg:3413",
        'GEOGCRS["x"]',
        'PROJCS["x",GEOGCS["y"]]',
        "file:///etc/passwd",
        "/usr/share/proj/proj.db",
        "EPSG:4978",  # the geocentre
        "EPSG:4979",  # three axes
        "EPSG:5773",  # a height
        "EPSG:7415",  # a map and a height
        "EPSG:5800",  # an engineering grid
        "IAU:49900",  # Mars
        "EPSG:3413\n",
    ],
)
def test_a_crs_that_is_none(daemon, parameter, text):
    answer = daemon.http.get(daemon.path("coverage"), params={"bbox": BBOX, parameter: text})
    assert "EPSG:3413" in check_problem(answer, 400, "bad-parameter", parameter)["hint"]


@pytest.mark.parametrize("parameter", ["width", "height"])
@pytest.mark.parametrize("text", ["0", "1.5", "1e3", "1000000000", "1000001", "+5", "1,1"])
def test_a_number_of_cells_that_is_none(daemon, parameter, text):
    check_problem(daemon.get(bbox=BBOX, **{parameter: text}), 400, "bad-parameter", parameter)


@pytest.mark.parametrize("text", ["0", "-1", "0,1", "1,-1", "1,2,3", ",", "1e300", "1e-300", "5e-324"])
def test_a_resolution_that_is_none(daemon, text):
    check_problem(daemon.get(bbox=BBOX, resolution=text), 400, "bad-parameter", "resolution")


@pytest.mark.parametrize(
    ("query", "setting"),
    [
        ({}, "max_output_pixels"),
        ({"bbox": "-180,60,180,90"}, "max_output_pixels"),
        ({"bbox": "-180,60,180,90", "width": "1000", "height": "1000"}, "max_chunks"),
        ({"bbox": BBOX, "resolution": "1e-12"}, "max_output_pixels"),
        ({"bbox": BBOX, "width": "1000000"}, "max_output_pixels"),
        ({"bbox": BBOX, "height": "1000000"}, "max_output_pixels"),
        ({"bbox": "150,65,150.00000000000003,65.00000000000001", "height": "1000000"}, "max_output_pixels"),
        ({"bbox": BBOX, "resolution": "1e17"}, "max_chunks"),
    ],
)
def test_too_large(daemon, query, setting):
    for rest in ("coverage", "plan"):
        document = check_problem(daemon.http.get(daemon.path(rest), params=query), 413, "too-large")
        assert document["setting"] == setting
        assert str(document["limit"]) in document["detail"]
        assert document["asked"] > document["limit"]


def test_json_is_for_small_answers(daemon):
    answer = daemon.get("coverage.json", bbox=BBOX, width="1500", height="1000")
    assert check_problem(answer, 413, "too-large")["limit"] == 1_000_000


@pytest.mark.parametrize("text", [",", ",,", "dem,", "dem,dem", "dem, dem"])
@pytest.mark.parametrize("parameter", ["bands", "properties"])
def test_a_list_of_bands_that_is_none(daemon, parameter, text):
    check_problem(daemon.get(bbox=BBOX, **{parameter: text}), 400, "bad-parameter", parameter)


@pytest.mark.parametrize("text", ["nope", "DEM", "dem;mad", "dem mad"])
def test_an_unknown_band(daemon, text):
    assert "dem, mad" in check_problem(daemon.get(bbox=BBOX, bands=text), 404, "unknown-band")["hint"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"bands": "dem", "properties": "dem"}, "bands"),
        ({"width": "3", "resolution": "32"}, "resolution"),
        ({"height": "3", "resolution": "32"}, "resolution"),
    ],
)
def test_parameters_that_exclude_each_other(daemon, query, parameter):
    check_problem(daemon.get(bbox=BBOX, **query), 400, "bad-parameter", parameter)


def test_a_bbox_crs_without_a_bbox(daemon):
    check_problem(daemon.get(bbox_crs="EPSG:3413"), 400, "bad-parameter", "bbox-crs")


@pytest.mark.parametrize(
    ("name", "near"),
    [("bboxx", "bbox"), ("band", "bands"), ("BBOX", "bbox"), ("bbox_crs", "bbox-crs"), ("format", None)],
)
def test_an_unknown_query_parameter_is_not_ignored(daemon, name, near):
    answer = daemon.http.get(daemon.path("coverage"), params={"bbox": BBOX, name: "1"})
    hint = check_problem(answer, 400, "bad-parameter", name)["hint"]
    assert near is None or hint == f"did you mean {near}?"


@pytest.mark.parametrize("text", ["/", "../", "/.."])
def test_an_interval_without_ends(daemon, text):
    """A time axis is not needed: STAC and OGC API refuse it everywhere."""
    answer = daemon.http.get(daemon.path("coverage"), params={"bbox": BBOX, "datetime": text})
    check_problem(answer, 400, "bad-parameter", "datetime")


def test_an_exponent_whose_plus_was_not_encoded(daemon):
    """The blank is what a query has where a client wrote a bare plus."""
    query = "bbox=-7.12e+5,2.6e+6,-7.1e+5,2.602e+6&bbox-crs=EPSG:3413"
    answers = [
        daemon.http.get(f"{daemon.path('plan')}?{text}") for text in (query, query.replace("+", "%2B"))
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


def test_a_parameter_given_twice(daemon):
    answer = daemon.http.get(daemon.path("coverage"), params=[("bbox", BBOX), ("bbox", "0,0,1,1")])
    check_problem(answer, 400, "bad-parameter", "bbox")


def test_a_suffix_fixes_the_format(daemon):
    check_problem(daemon.get("coverage.tif", bbox=BBOX, f="netcdf"), 400, "bad-parameter", "f")
    check_problem(daemon.get("coverage.exe", bbox=BBOX), 406, "not-acceptable")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "lon"),
        ({"lon": "150"}, "lat"),
        ({"lat": "65"}, "lon"),
        ({"x": "1"}, "y"),
        ({"crs": "EPSG:3413"}, "x"),
        ({"lon": "150", "lat": "91"}, "lat"),
        ({"lon": "181", "lat": "65"}, "lon"),
        ({"lon": "nan", "lat": "65"}, "lon"),
        ({"lon": "150,65", "lat": "65"}, "lon"),
        ({"lon": "150", "lat": "65", "crs": "EPSG:3413"}, "lon"),
        ({"lon": "150", "lat": "65", "x": "1", "y": "1"}, "lon"),
        ({"x": "1", "y": "1", "crs": "EPSG:4978"}, "crs"),
        ({"x": "1", "y": "1", "crs": ""}, "crs"),
        ({"lon": "150", "lat": "65", "bands": ""}, "bands"),
    ],
)
def test_a_point_that_is_none(daemon, query, parameter):
    check_problem(daemon.get("point", **query), 400, "bad-parameter", parameter)


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"proj:transform": [0, 0, 0, 0, 0, 0]}, "proj:transform"),
        ({"proj:transform": [1, 1, 0, 1, 1, 0]}, "proj:transform"),
        ({"proj:transform": [1e308, 0, 1e308, 0, -1e308, 1e308]}, "proj:transform"),
        ({"proj:transform": [1e-300, 0, 1, 0, -1e-300, 1]}, "proj:transform"),
        ({"proj:transform": [32, 0, 0, 0, -32]}, "proj:transform"),
        ({"proj:transform": [32, 0, 0, 0, -32, 0, 0]}, "proj:transform"),
        ({"proj:transform": [32, 0, 0, 0, -32, 0, 1, 0, 1]}, "proj:transform"),
        ({"proj:transform": [math.nan, 0, 0, 0, -32, 0]}, "proj:transform"),
        ({"proj:transform": "32,0,0,0,-32,0"}, "proj:transform"),
        ({"proj:shape": [0, 1]}, "proj:shape"),
        ({"proj:shape": [-1, 1]}, "proj:shape"),
        ({"proj:shape": [10**30, 1]}, "proj:shape"),
        ({"proj:shape": [1, 2, 3]}, "proj:shape"),
        ({"proj:shape": [1.5, 2]}, "proj:shape.0"),
        ({"proj:shape": None}, "proj:shape"),
        ({"proj:code": "EPSG:4978"}, "proj:code"),
        ({"proj:code": "file:///etc/passwd"}, "proj:code"),
        ({"proj:code": None}, "proj:code"),
        ({"proj:wkt2": "x"}, "proj:wkt2"),
        ({"proj:code": None, "proj:wkt2": "/etc/passwd"}, "proj:wkt2"),
        ({"proj:code": None, "proj:wkt2": "PROJCRS[1]"}, "proj:wkt2"),
        ({"proj:code": None, "proj:wkt2": "x" * 30_000}, "proj:wkt2"),
        ({"crs": "EPSG:3413"}, "crs"),
        ({"resolution": 3}, "resolution"),
        ({"bands": []}, "bands"),
        ({"bands": ["dem", "dem"]}, "bands"),
        ({"bands": "dem"}, "bands"),
        ({"datetime": "2020-01-01"}, "datetime"),
        ({"resampling": "gauss"}, "resampling"),
        ({"resampling": {"dem": "gauss"}}, "resampling"),
        ({"fail_on_error": "perhaps"}, "fail_on_error"),
        ({"snapshot": "../../etc"}, "snapshot"),
        ({"bandz": 1}, "bandz"),
        ({"geometry": {"type": "Point", "coordinates": [150, 65]}}, "geometry"),
        ({"geometry": "POLYGON EMPTY"}, "geometry"),
        # JSON's types are meant: none of these is taken for something else.
        ({"proj:transform": ["32", 0, 0, 0, -32, 0]}, "proj:transform.0"),
        ({"proj:shape": ["8", 8]}, "proj:shape.0"),
        ({"fail_on_error": "yes"}, "fail_on_error"),
        ({"fail_on_error": 1}, "fail_on_error"),
        ({"crs": 3413}, "crs"),
        # Only the names of the description.
        ({"transform": [32, 0, 0, 0, -32, 0]}, "transform"),
        ({"code": "EPSG:3413"}, "code"),
    ],
    ids=str,
)
def test_nonsense_in_a_member_of_the_body(daemon, change, parameter):
    body = json.dumps({**GEOBOX, **change})
    for rest in ("coverage", "plan"):
        answer = daemon.http.post(daemon.path(rest), content=body, headers=JSON)
        check_problem(answer, 422, "bad-body", parameter)


RING = [[150, 65], [150.01, 65], [150.01, 65.01], [150, 65]]


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": [150, 65]},
        {"type": "Polygon", "coordinates": [[[150, 65], [151, 65]]]},
        {"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"], ["e", "f"]]]},
        {"type": "Polygon", "coordinates": [[[150, None], [151, 65], [151, 66], [150, 65]]]},
        {"type": "Polygon", "coordinates": [[[190, 65], [191, 65], [191, 66], [190, 65]]]},
        {"type": "Polygon", "coordinates": [[[150, 65], [151, 66], [151, 65], [150, 66], [150, 65]]]},
        {"type": "MultiPolygon", "coordinates": [RING]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "Feature", "geometry": None},
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": RING}},
        {"type": {}, "coordinates": RING},  # was 500: a type that no set can hold
        {"type": "Feature", "geometry": {"type": ["Polygon"], "coordinates": [RING]}},
    ],
    ids=str,
)
def test_a_polygon_that_is_none(daemon, geometry):
    check_problem(daemon.post(body={"geometry": geometry}), 422, "bad-body", "geometry")


def test_a_polygon_of_a_hundred_thousand_corners(daemon):
    ring = [
        [round(150 + 0.02 * math.cos(step / 5000 * math.pi), 2), round(65 + 0.01 * math.sin(step), 2)]
        for step in range(100_000)
    ]
    body = {"geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}
    answer = daemon.post(body=body)
    assert answer.status_code in {413, 422}
    assert answer.json()["kind"] in {"too-large", "bad-body"}


def test_a_comb_of_long_teeth_is_not_cut_into_millions(daemon):
    """Cutting it into pieces of its extent's size took minutes; the client of these tests waits for one."""
    teeth = [[150 + 0.1 * n / 19_000, 65 if n % 4 in {0, 3} else 65.3] for n in range(19_000)]
    ring = [*teeth, [150.1, 64.9], [150, 64.9], teeth[0]]
    answer = daemon.post("plan", {"geometry": {"type": "Polygon", "coordinates": [ring]}})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b"{",
        b"\xff\xfe",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"geometry":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"proj:shape":[' + b"9" * 5000 + b",1]}",
    ],
    ids=lambda content: ascii(content[:12]),
)
@pytest.mark.parametrize("rest", ["coverage", "plan", "point"])
def test_a_body_that_is_no_document(daemon, rest, content):
    document = check_problem(
        daemon.http.post(daemon.path(rest), content=content, headers=JSON), 422, "bad-body"
    )
    assert document["detail"].startswith("body")
    assert document["parameter"] == "body"


def test_a_member_with_a_name_without_end(daemon):
    document = check_problem(daemon.post("plan", {**GEOBOX, "x" * 100_000: 1}), 422, "bad-body")
    assert document["parameter"] == "x" * 200
    assert len(document["detail"]) < 300


def test_a_member_whose_name_is_half_a_character(daemon):
    """Was 500: a lone surrogate can't be sent back in UTF-8."""
    for body in ('{"\\ud800": 1}', '{"resampling": {"\\ud800": "nearest"}}', '{"bands": ["\\ud800"]}'):
        answer = daemon.http.post(daemon.path("plan"), content=body, headers=JSON)
        assert answer.status_code in {404, 422}
        # pydantic does not repeat the name of a member that is not a text
        assert r"\ud800" in answer.json()["detail"] or body.startswith('{"\\ud800"')


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_a_body_that_is_not_declared_as_json(daemon, media_type):
    answer = daemon.http.post(
        daemon.path("plan"), content=json.dumps(GEOBOX), headers={"content-type": media_type}
    )
    check_problem(answer, 415, "unsupported-media-type")


def test_json_with_a_charset_is_json(daemon):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert (
        daemon.http.post(daemon.path("plan"), content=json.dumps(GEOBOX), headers=headers).status_code == 200
    )


def test_a_body_of_two_megabytes(daemon):
    content = b'{"a":"' + b"x" * 2_000_000 + b'"}'
    document = check_problem(
        daemon.http.post(daemon.path("plan"), content=content, headers=JSON), 413, "too-large"
    )
    assert document["limit"] == 1024**2
    assert document["setting"] == "max_body_bytes"
    assert str(1024**2) in document["detail"]


def test_a_long_body_that_does_not_say_its_length(daemon):
    pieces = (b" " * 65_536 for _ in range(40))
    answer = daemon.http.post(daemon.path("plan"), content=pieces, headers=JSON)
    assert str(1024**2) in check_problem(answer, 413, "too-large")["detail"]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"points": []}, "points"),
        ({"points": [[150, 65]] * 257}, "points"),
        ({"points": [[150, 65, 1]]}, "points.0"),
        ({"points": [[150, "x"]]}, "points.0.1"),
        ({"points": [[150, "65"]]}, "points.0.1"),
        ({"points": [[True, 65]]}, "points.0.0"),
        ({"points": [[150, 91]]}, "points"),
        ({"points": [[150, 65]], "crs": "EPSG:4978"}, "crs"),
        ({"points": [[150, 65]], "bands": [""]}, "bands"),
        ({"points": [[150, 65]], "lon": 3}, "lon"),
    ],
    ids=str,
)
def test_points_that_are_none(daemon, body, parameter):
    check_problem(daemon.post("point", body), 422, "bad-body", parameter)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_method_that_a_path_does_not_have(daemon, method):
    answer = daemon.get(method=method)
    check_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "HEAD, GET, POST"


@pytest.mark.parametrize("accept", ["text/html", "application/pdf", "image/tiff;q=0", "nonsense/*"])
def test_a_format_that_there_is_not(daemon, accept):
    document = check_problem(daemon.get(bbox=BBOX, headers={"accept": accept}), 406, "not-acceptable")
    assert "image/tiff" in document["hint"]


@pytest.mark.parametrize("snapshot", ["latest", "main", "0" * 20, "x" * 255])
def test_a_snapshot_that_there_is_not(daemon, snapshot):
    check_problem(daemon.get(bbox=BBOX, snapshot=snapshot), 404, "unknown-snapshot")


def test_the_snapshot_from_before_the_collection_was_laid_out(daemon):
    """Icechunk's first, whose id is the same in every repository."""
    check_problem(daemon.get(bbox=BBOX, snapshot="1CECHNKREP0F1RSTCMT0"), 504, "not-cached")
