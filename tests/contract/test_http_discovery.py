"""What the daemon says about itself: landing page, conformance, API description, collections, health."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import urljoin

import jsonschema
import pystac
import pytest
from prometheus_client.parser import text_string_to_metric_families

from icehouse_server.settings import read_collections

IDS = sorted(read_collections(None))
METRICS = {
    "icehouse_answer_bytes",
    "icehouse_answer_bytes_limit",
    "icehouse_answers",
    "icehouse_answers_waiting",
    "icehouse_blocks_fetched",
    "icehouse_blocks_oldest_seconds",
    "icehouse_blocks_queued",
    "icehouse_blocks_queued_limit",
    "icehouse_blocks_running",
    "icehouse_blocks_running_limit",
    "icehouse_cache_bytes",
    "icehouse_cache_bytes_limit",
    "icehouse_chunks_cached",
    "icehouse_chunks_failed",
    "icehouse_chunks_fetched",
    "icehouse_chunks_joined",
    "icehouse_chunks_left_alone",
    "icehouse_clients_gone",
    "icehouse_commit_chunks",
    "icehouse_commit_seconds",
    "icehouse_commit_under_way_seconds",
    "icehouse_commits",
    "icehouse_commits_failed",
    "icehouse_damaged_chunks",
    "icehouse_decoded_bytes",
    "icehouse_decoded_chunks",
    "icehouse_decoded_evicted",
    "icehouse_decoded_hits",
    "icehouse_decoded_misses",
    "icehouse_disk_floor_bytes",
    "icehouse_disk_free_bytes",
    "icehouse_evicted_chunks",
    "icehouse_expired_snapshots",
    "icehouse_fetch_seconds",
    "icehouse_flights",
    "icehouse_freed_bytes",
    "icehouse_jobs",
    "icehouse_leases",
    "icehouse_loop_delay_seconds",
    "icehouse_loop_delay_worst_seconds",
    "icehouse_maintenance_failures",
    "icehouse_maintenance_runs",
    "icehouse_maintenance_seconds",
    "icehouse_places_taken",
    "icehouse_pool_queued",
    "icehouse_problems",
    "icehouse_request_seconds",
    "icehouse_requests",
    "icehouse_retries",
    "icehouse_source_bytes",
    "icehouse_source_errors",
    "icehouse_source_requests",
    "icehouse_tasks",
    "icehouse_threads",
}
"""Names are part of the interface: dashboards and alerts are written against them."""


def links(document, rel):
    return [link["href"] for link in document["links"] if link["rel"] == rel]


def test_landing_page_for_programs(daemon):
    answer = daemon.http.get("/")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    document = answer.json()
    assert document["type"] == "Catalog"
    for rel, path in (
        ("self", "/"),
        ("root", "/"),
        ("service-desc", "/openapi.json"),
        ("service-doc", "/docs"),
        ("conformance", "/conformance"),
        ("data", "/collections"),
    ):
        assert links(document, rel) == [daemon.url + path]
        assert daemon.http.get(path).status_code == 200
    assert sorted(links(document, "child")) == [f"{daemon.url}/collections/{name}" for name in IDS]
    pystac.Catalog.from_dict(document)


def test_landing_page_for_browsers(daemon):
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    answer = daemon.http.get("/", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("text/html")
    for name in IDS:
        assert f'href="collections/{name}"' in answer.text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text)


def test_links_hold_the_name_by_which_the_daemon_was_asked(daemon):
    answer = daemon.http.get("/", headers={"host": f"localhost:{daemon.port}"})
    assert links(answer.json(), "self") == [f"http://localhost:{daemon.port}/"]


def test_conformance(daemon):
    classes = daemon.http.get("/conformance").json()["conformsTo"]
    assert classes == daemon.http.get("/").json()["conformsTo"]
    assert "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core" in classes
    assert "https://api.stacspec.org/v1.0.0/core" in classes


def test_api_description(daemon):
    document = daemon.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "x, y (lon, lat) for every CRS" in document["info"]["description"]
    ids = []
    for path, item in document["paths"].items():
        for operation in item.values():
            ids.append(operation["operationId"])
            named = {parameter["name"] for parameter in operation.get("parameters", [])}
            assert set(re.findall(r"{(\w+)}", path)) <= named
            assert operation["responses"]["400"] == {"$ref": "#/components/responses/Problem400"}
            assert "422" not in operation["responses"] or "requestBody" in operation
            for parameter in operation.get("parameters", []):
                jsonschema.Draft202012Validator.check_schema(parameter["schema"])
    assert len(ids) == len(set(ids))
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        place = document
        for part in reference.split("/"):
            place = place[part]
    coverage = document["paths"]["/collections/{collection}/coverage"]["get"]
    assert {parameter["name"] for parameter in coverage["parameters"]} == {
        "collection", "bbox", "bbox-crs", "crs", "width", "height", "resolution", "properties", "bands",
        "resampling", "fail_on_error", "snapshot", "f",
    }  # fmt: skip
    assert (
        "image/tiff; application=geotiff; profile=cloud-optimized" in coverage["responses"]["200"]["content"]
    )


def test_api_pages_load_nothing_from_elsewhere(daemon):
    page = daemon.http.get("/docs")
    assert page.status_code == 200
    parts = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', page.text)
    assert any(part.endswith(".js") for part in parts)
    assert any(part.endswith(".css") for part in parts)
    for part in parts:
        url = urljoin(f"{daemon.url}/docs", part)
        assert url.startswith(daemon.url)
        assert daemon.http.get(url).status_code == 200
    foreign = set(re.findall(r'https?://[^\s"\'<>)]+', page.text)) - {daemon.url}
    assert not foreign


def test_collections(daemon):
    document = daemon.http.get("/collections").json()
    assert sorted(entry["id"] for entry in document["collections"]) == IDS
    assert links(document, "self") == [f"{daemon.url}/collections"]
    for entry in document["collections"]:
        assert entry == daemon.http.get(f"/collections/{entry['id']}").json()


@pytest.mark.parametrize("name", IDS)
def test_a_collection_is_stac_with_the_datacube(daemon, name):
    document = daemon.http.get(f"/collections/{name}").json()
    collection = pystac.Collection.from_dict(document)
    assert collection.id == name
    assert collection.license == "CC-BY-4.0"
    assert collection.extent.spatial.bboxes == [[-180.0, 49.9, 180.0, 90.0]]
    (start, end) = collection.extent.temporal.intervals[0]
    assert start.year == 2007
    assert end is None
    assert document["storageCrs"] == "http://www.opengis.net/def/crs/EPSG/0/3413"
    assert document["crs"] == ["http://www.opengis.net/def/crs/OGC/1.3/CRS84", document["storageCrs"]]
    assert document["proj:code"] == "EPSG:3413"
    a, b, left, d, e, top = document["proj:transform"]
    rows, cols = document["proj:shape"]
    assert (b, d, e) == (0, 0, -a)
    assert a == float(name.removeprefix("arcticdem-").removesuffix("m"))
    box = [left, top - rows * a, left + cols * a, top]
    assert document["proj:bbox"] == box
    x, y = document["cube:dimensions"]["x"], document["cube:dimensions"]["y"]
    assert x == {
        "type": "spatial",
        "axis": "x",
        "extent": [box[0], box[2]],
        "step": a,
        "reference_system": 3413,
    }
    assert y == {
        "type": "spatial",
        "axis": "y",
        "extent": [box[1], box[3]],
        "step": -a,
        "reference_system": 3413,
    }
    bands = ["dem", "mad", "count", "mindate", "maxdate", "datamask"]
    assert list(document["cube:variables"]) == [band["name"] for band in document["bands"]] == bands
    dem = document["cube:variables"]["dem"]
    assert (dem["type"], dem["dimensions"], dem["unit"], dem["nodata"]) == ("data", ["y", "x"], "m", -9999.0)
    prefixes = ("cube:", "proj:", "sci:")
    for prefix, extension in zip(prefixes, ("datacube", "projection", "scientific"), strict=True):
        if any(key.startswith(prefix) for key in document):
            assert any(f"/{extension}/" in url for url in document["stac_extensions"])
    for link in document["links"]:
        if link["href"].startswith(daemon.url) and "/coverage" not in link["href"]:
            assert daemon.http.get(link["href"]).status_code == 200


def test_schema(daemon):
    document = daemon.get("schema").json()
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$id"] == f"{daemon.url}/collections/arcticdem-32m/schema"
    dem, count = document["properties"]["dem"], document["properties"]["count"]
    assert (dem["type"], dem["x-ogc-dataType"], dem["x-ogc-unit"]) == ("number", "float32", "m")
    assert dem["x-ogc-nilValues"] == [{"value": -9999.0, "reason": "nodata"}]
    assert (count["type"], count["x-ogc-dataType"]) == ("integer", "uint8")
    assert [band["x-ogc-propertySeq"] for band in document["properties"].values()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "path", ["/", "/conformance", "/openapi.json", "/docs", "/collections", "/healthz", "/readyz", "/metrics"]
)
def test_head_wherever_get_is(daemon, path):
    answer = daemon.http.head(path)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"] == daemon.http.get(path).headers["content-type"]


def test_alive_and_ready(daemon):
    assert daemon.http.get("/healthz").json() == {"status": "ok"}
    answer = daemon.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["ready"] is True
    assert document["reasons"] == []
    assert sorted(document["collections"]) == IDS


def test_metrics(daemon, place):
    def read():
        text = daemon.http.get("/metrics").text
        return {family.name: family for family in text_string_to_metric_families(text)}

    def total(name, **labels):
        samples = read()[name].samples
        return sum(
            sample.value
            for sample in samples
            if not sample.name.endswith("_created") and labels.items() <= sample.labels.items()
        )

    before = total("icehouse_chunks_fetched")
    assert daemon.get(**place.query()).status_code == 200
    families = read()
    assert families.keys() >= METRICS
    ours = {name for name in families if name.startswith("icehouse_")}
    assert {name for name in ours if not name.endswith("_created")} == METRICS
    assert all(family.documentation for family in families.values())
    assert total("icehouse_chunks_fetched") == before + 1
    assert total("icehouse_chunks_cached", collection="arcticdem-32m") >= 1
    assert total("icehouse_answer_bytes") == 0
    assert total("icehouse_leases") == 0
    route = "/collections/{collection}/coverage"
    assert total("icehouse_requests", route=route, method="GET", status="200") >= 1
    assert total("icehouse_source_requests") > 0


def test_every_answer_has_an_id_that_stands_in_the_log(daemon):
    name = daemon.http.get("/healthz").headers["icehouse-request-id"]
    deadline = time.monotonic() + 5
    while name not in daemon.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if name in line]
    assert lines[0]["path"] == "/healthz"
