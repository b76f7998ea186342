"""Conditional requests (RFC 9110, section 13): If-Match before If-None-Match, on all that has an ETag."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["coverage", "tile", "chunk", "document", "page"])
def url(request, daemon):
    """Something that has an ETag and is cached."""
    place = daemon.place()
    daemon.get(**place.query())
    row = int((4_194_304 - place.top + 3200) // 8192)
    col = int((place.left + 3200 + 4_194_304) // 8192)
    return {
        "coverage": lambda: str(
            daemon.http.build_request("GET", daemon.path("coverage"), params=place.query()).url
        ),
        "tile": lambda: daemon.path(f"tiles/EPSG3413Quad/10/{row}/{col}"),
        "chunk": lambda: daemon.path(f"cube.zarr/dem/c/{place.row}/{place.col}"),
        "document": lambda: daemon.path("cube.zarr/zarr.json"),
        "page": lambda: "/?f=html",
    }[request.param]()


def test_if_match_on_all_that_has_an_etag(daemon, url):
    tag = daemon.http.get(url).headers["etag"]
    for value, status in (
        (tag, 200),
        (f'"other", {tag}', 200),
        ("*", 200),
        ('"other"', 412),
        (f"W/{tag}", 412),
        ("nonsense", 412),
    ):
        for method in ("GET", "HEAD"):
            answer = daemon.http.request(method, url, headers={"if-match": value})
            assert answer.status_code == status, (method, value)
    problem = daemon.http.get(url, headers={"if-match": '"other"'}).json()
    assert problem["kind"] == "precondition-failed"
    assert tag in problem["detail"]


def test_if_match_comes_before_if_none_match_and_range(daemon, url):
    tag = daemon.http.get(url).headers["etag"]
    for headers, status in (
        ({"if-match": tag, "if-none-match": tag}, 304),
        ({"if-match": '"other"', "if-none-match": tag}, 412),
        ({"if-match": '"other"', "range": "bytes=0-9"}, 412),
    ):
        assert daemon.http.get(url, headers=headers).status_code == status, headers


def test_tags_in_several_lines_are_one_list(daemon, url):
    tag = daemon.http.get(url).headers["etag"]
    for name, status in (("if-none-match", 304), ("if-match", 200)):
        lines = [(name, '"other"'), (name, tag)]
        assert daemon.http.get(url, headers=lines).status_code == status


def test_if_match_where_chunks_are_absent(daemon, place):
    answer = daemon.get(**place.query(), headers={"if-match": '"other"'})
    assert answer.status_code == 412
    tag = daemon.get(**place.query()).headers["etag"]
    assert daemon.get(**place.query(), headers={"if-match": tag}).status_code == 200


def test_if_match_on_a_post(daemon, place):
    tag = daemon.post(body=place.body()).headers["etag"]
    assert daemon.post(body=place.body(), headers={"if-match": tag}).status_code == 200
    assert daemon.post(body=place.body(), headers={"if-match": '"other"'}).status_code == 412


def test_a_download_goes_on_where_it_is_the_same(daemon, place):
    whole = daemon.get(**place.query())
    headers = {"range": "bytes=100-", "if-match": whole.headers["etag"]}
    rest = daemon.get(**place.query(), headers=headers)
    assert (rest.status_code, rest.content) == (206, whole.content[100:])
