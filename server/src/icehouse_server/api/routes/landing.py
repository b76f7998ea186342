"""``/``, ``/conformance``: what this is, for people and for programs."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, JSONResponse

from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import json_answer
from icehouse_server.api.parameters.documents import DOCUMENT, LandingFormat, check_landing_format
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.routes.page import BuiltPage, index_answer, wants_html
from icehouse_server.api.state import ApiState, State, base_url

router = APIRouter(tags=["landing"])

CONFORMANCE = (
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/landing-page",
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/json",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections",
    *(
        f"http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/{name}"
        for name in ("core", "tileset", "tilesets-list", "png")
    ),
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
)
"""Classes that are met whole. OGC API Coverages is a draft whose URIs still change: not claimed."""

_PLAIN_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Icehouse</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5 }}
body {{ max-width: 46rem; margin: 3rem auto; padding: 0 1rem }}
code, pre {{ font-family: ui-monospace, monospace; font-size: .9em }}
pre {{ overflow-x: auto; padding: .8rem 1rem; border: 1px solid #8884; border-radius: .4rem }}
dt {{ font-weight: 600; margin-top: 1rem }} dd {{ margin: 0 }}
</style></head><body>
<h1>Icehouse {version}</h1>
<p>This daemon fetches remote Earth-observation rasters once, keeps them on this machine, and gives any region
of them to every process here.</p>
<p>The page with the map is not built here: <code>make page</code> builds it in a checkout.</p>
<h2>Collections</h2><dl>{collections}</dl>
<h2>Load a region</h2>
<pre>curl -o region.tif "{base}/collections/{first}/coverage.tif?bbox=150,65,151,65.5"</pre>
<pre>import icehouse
ds = icehouse.Client("{base}").load(geobox, "{first}")</pre>
<p><a href="docs">API description</a> · <a href="collections">collections as JSON</a> ·
<a href="readyz">status</a> · <a href="metrics">metrics</a></p>
</body></html>
"""
"""What browsers get where the page was not built."""
_PLAIN = {
    "Vary": "Accept",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_TYPES = {"application/json": {"schema": schemas.LANDING}, "text/html": {"schema": {"type": "string"}}}


@router.get(
    "/", dependencies=[LENIENT], responses={200: {"description": "The landing page.", "content": _TYPES}}
)
async def get_landing(request: Request, state: State, page: BuiltPage, f: LandingFormat = None) -> Response:
    """The page for people who ask with a browser, links for programs."""
    check_landing_format(f)
    base = base_url(request)
    if wants_html(request.scope):
        if page.index is not None:
            return index_answer(request, page.index)
        return HTMLResponse(_plain_page(state, base), headers=_PLAIN)
    return JSONResponse(_links(state, base), headers={"Vary": "Accept"})


@router.get("/conformance", dependencies=DOCUMENT, responses={200: json_answer(schemas.CONFORMANCE)})
async def get_conformance() -> dict[str, Any]:
    """The conformance classes that are met."""
    return {"conformsTo": list(CONFORMANCE)}


def _plain_page(state: ApiState, base: str) -> str:
    specs = [collection.spec for collection in state.store.collections.values()]
    listed = "".join(
        f'<dt><a href="collections/{escape(spec.id)}"><code>{escape(spec.id)}</code></a></dt>'
        f"<dd>{escape(spec.title)}</dd>"
        for spec in specs
    )
    return _PLAIN_PAGE.format(
        version=escape(state.version),
        collections=listed,
        base=escape(base),
        first=escape(specs[0].id) if specs else "ID",
    )


def _links(state: ApiState, base: str) -> dict[str, Any]:
    links = [
        ("self", "application/json", f"{base}/"),
        ("root", "application/json", f"{base}/"),
        ("service-desc", "application/vnd.oai.openapi+json;version=3.1", f"{base}/openapi.json"),
        ("service-doc", "text/html", f"{base}/docs"),
        ("service-meta", "application/vnd.oai.openapi+json;version=3.1", f"{base}/openapi.json"),
        ("conformance", "application/json", f"{base}/conformance"),
        ("data", "application/json", f"{base}/collections"),
        (
            "http://www.opengis.net/def/rel/ogc/1.0/tiling-schemes",
            "application/json",
            f"{base}/tileMatrixSets",
        ),
    ]
    children = [
        ("child", "application/json", f"{base}/collections/{name}") for name in state.store.collections
    ]
    return {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": "icehouse",
        "title": "Icehouse",
        "description": "Remote Earth-observation rasters, fetched once and kept on this machine.",
        "version": state.version,
        "conformsTo": list(CONFORMANCE),
        "links": [{"rel": rel, "type": media, "href": href} for rel, media, href in links + children],
    }
