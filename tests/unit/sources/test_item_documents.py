"""Item documents: which parts are read, and how."""

import json

import pytest

from icehouse_server.sources.http.urls import resolved, without_vsi
from icehouse_server.sources.stac.documents import crs_code, number, numbers, parse_document

URL = "https://api.test/collections/c/items/i"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("EPSG:3413", "EPSG:3413"),
        ("3413", "EPSG:3413"),
        (3413, "EPSG:3413"),
        (3413.0, "EPSG:3413"),
        (" EPSG:3413 ", "EPSG:3413"),
        ("IAU_2015:30100", "IAU_2015:30100"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "OGC:CRS84"),
        ("https://www.opengis.net/def/crs/EPSG/0/4326", "EPSG:4326"),
        ("EPSG:None", None),
        ("epsg:none", None),
        ("EPSG:", None),
        ("None", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (3413.5, None),
        ({"a": 1}, None),
        (10**400, None),
        ("/etc/passwd", None),
        ("+init=/etc/passwd:x", None),
        ("+proj=pipeline +step +proj=merc", None),
    ],
)
def test_codes_of_a_crs(value, code):
    assert crs_code(value) == code


@pytest.mark.parametrize(
    ("value", "found"), [("1.0", 1.0), (" 2 ", 2.0), (3, 3.0), ("x", None), (None, None), (True, None)]
)
def test_numbers_also_as_text(value, found):
    assert number(value) == found


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, "2"], [1.0, 2.0]),
        ([1, None], None),
        ([1], None),
        ("12", None),
        ([1, float("nan")], None),
        ([1, 10**400], None),
        ([1, 101], None),
    ],
)
def test_lists_of_numbers(values, found):
    assert numbers(values, (2,), 100) == found


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("/vsicurl/https://a.test/b.tif", "https://a.test/b.tif"),
        ("/vsicurl_streaming/http://a.test/b.tif", "http://a.test/b.tif"),
        ("/vsis3/bucket/key/b.tif", "s3://bucket/key/b.tif"),
        ("/vsigs/bucket/b.tif", "gs://bucket/b.tif"),
        ("https://a.test/vsis3/b.tif", "https://a.test/vsis3/b.tif"),
        ("/vsizip//vsicurl/https://a.test/b.zip", "/vsizip//vsicurl/https://a.test/b.zip"),
    ],
)
def test_prefixes_of_gdal(href, url):
    assert without_vsi(href) == url


@pytest.mark.parametrize(
    ("href", "base", "url"),
    [
        ("b.tif", "https://a.test/x/i.json", "https://a.test/x/b.tif"),
        ("../b.tif?q=1", "https://a.test/x/y/i.json", "https://a.test/x/b.tif?q=1"),
        ("/b.tif", "https://a.test/x/i.json", "https://a.test/b.tif"),
        ("./b.tif", "s3://bucket/x/i.json", "s3://bucket/x/b.tif"),
        ("s3://bucket/b.tif", "https://a.test/i.json", "s3://bucket/b.tif"),
        ("//b.test/b.tif", "https://a.test/i.json", "https://b.test/b.tif"),
        ("b\n.tif", "https://a.test/i.json", "b\n.tif"),
        ("b.tif", "x", "b.tif"),
    ],
)
def test_relative_hrefs(href, base, url):
    assert resolved(href, base) == url


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("https://b.test/p/i.json", "https://b.test/p/b.tif"),
        ("s3://bucket/p/i.json", "s3://bucket/p/b.tif"),
        ("/vsis3/bucket/p/i.json", "s3://bucket/p/b.tif"),
        ("./i.json", "https://api.test/collections/c/items/b.tif"),
        ("/p/i.json", "https://api.test/p/b.tif"),
        (None, "https://api.test/collections/c/items/b.tif"),
    ],
)
def test_what_hrefs_are_relative_to(link, url):
    body = {
        "type": "Feature",
        "id": "i",
        "properties": {},
        "assets": {"a": {"href": "b.tif"}},
        "links": [{"rel": "self", "href": link}],
    }
    asset = parse_document(json.dumps(body), URL).assets["a"]
    assert asset is not None
    assert asset.href == url
