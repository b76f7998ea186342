"""What the daemon says about itself: landing page, conformance, API description, collections, health."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import urljoin

import jsonschema
import numpy as np
import pystac
import pytest
from prometheus_client.parser import text_string_to_metric_families

from icehouse_server.collections import read_collections

SPECS = read_collections(None)
IDS = sorted(SPECS)
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
    "icehouse_chunks_backoff",
    "icehouse_chunks_asked",
    "icehouse_chunks_found",
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
    "icehouse_collection_blocks_running",
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
        "collection", "bbox", "bbox-crs", "subset", "subset-crs", "crs", "width", "height", "resolution",
        "properties", "bands", "exclude-properties",
        "datetime", "level", "resampling", "fail_on_error", "snapshot", "f",
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
    spec = SPECS[name]
    document = daemon.http.get(f"/collections/{name}").json()
    collection = pystac.Collection.from_dict(document)
    assert (collection.id, collection.license) == (name, spec.license)
    assert collection.extent.spatial.bboxes == [list(spec.bbox)]
    epsg = spec.grid.crs.epsg
    assert document["storageCrs"] == f"http://www.opengis.net/def/crs/EPSG/0/{epsg}"
    assert document["crs"] == ["http://www.opengis.net/def/crs/OGC/1.3/CRS84", document["storageCrs"]]
    assert document["proj:code"] == f"EPSG:{epsg}"
    assert tuple(document["proj:transform"]) == tuple(spec.grid.geobox.affine)[:6]
    assert tuple(document["proj:shape"]) == spec.grid.shape
    box = document["proj:bbox"]
    assert box == pytest.approx(spec.grid.geobox.boundingbox.bbox, rel=1e-15)
    dimensions = document["cube:dimensions"]
    for axis, extent, step in (("x", box[0::2], 0), ("y", box[1::2], 4)):
        assert dimensions[axis] == {
            "type": "spatial",
            "axis": axis,
            "extent": extent,
            "step": document["proj:transform"][step],
            "reference_system": epsg,
        }
    dims = [*(["time"] if spec.time else []), "y", "x"]
    assert set(dimensions) == set(dims)
    assert list(document["cube:variables"]) == [band["name"] for band in document["bands"]]
    for band in spec.bands:
        found = document["cube:variables"][band.name]
        assert (found["type"], found["dimensions"], found.get("unit", "")) == ("data", dims, band.units)
        nodata = found.get("nodata")
        assert (np.nan if nodata == "NaN" else nodata) == pytest.approx(band.nodata, nan_ok=True)
    prefixes = ("cube:", "proj:", "sci:")
    for prefix, extension in zip(prefixes, ("datacube", "projection", "scientific"), strict=True):
        if any(key.startswith(prefix) for key in document):
            assert any(f"/{extension}/" in url for url in document["stac_extensions"])
    for link in document["links"]:
        if link["href"].startswith(daemon.url) and "/coverage" not in link["href"]:
            assert daemon.http.get(link["href"]).status_code == 200


def test_arcticdem_is_what_is_published(daemon):
    document = daemon.http.get("/collections/arcticdem-32m").json()
    assert document["proj:transform"] == [32, 0, -4000096, 0, -32, 4100096]
    assert document["license"] == "CC-BY-4.0"
    assert document["extent"]["temporal"]["interval"] == [["2007-11-27T00:00:00Z", None]]
    assert [band["name"] for band in document["bands"]] == [
        "dem", "mad", "count", "mindate", "maxdate", "datamask",
    ]  # fmt: skip
    dem = document["cube:variables"]["dem"]
    assert (dem["unit"], dem["nodata"]) == ("m", -9999.0)


def test_a_time_axis_is_described(daemon):
    document = daemon.http.get("/collections/alphaearth").json()
    time = document["cube:dimensions"]["time"]
    assert (time["type"], time["step"], time["extent"][0]) == ("temporal", "P1Y", "2017-01-01T00:00:00Z")
    assert time["values"][:2] == ["2017-01-01T00:00:00Z", "2018-01-01T00:00:00Z"]
    assert time["extent"][1] == f"{int(time['values'][-1][:4]) + 1}-01-01T00:00:00Z"
    assert len(document["bands"]) == 64


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
