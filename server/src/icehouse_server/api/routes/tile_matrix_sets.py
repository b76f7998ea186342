"""``/tileMatrixSets``: how tiles lie."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import json_answer
from icehouse_server.api.parameters.documents import DOCUMENT
from icehouse_server.api.state import base_url
from icehouse_server.core.tile_matrix_sets import CRS_OF, tile_matrix_set, tile_matrix_sets


async def _made() -> None:
    """Have the tile matrix sets made in a thread when they are first needed: it takes 40 ms."""
    if not tile_matrix_sets.cache_info().currsize:
        await run_in_threadpool(tile_matrix_sets)


MADE = Depends(_made)
"""What routes depend on that use tile matrix sets on the event loop."""

router = APIRouter(tags=["tiles"], dependencies=[MADE, *DOCUMENT])

_NAMES: schemas.Schema = {"type": "string", "enum": list(CRS_OF), "examples": ["WebMercatorQuad"]}

Tms = Annotated[str, Path(description="Name of a tile matrix set."), WithJsonSchema(_NAMES)]


@router.get("/tileMatrixSets", responses={200: json_answer(schemas.TILE_MATRIX_SETS)})
async def get_tile_matrix_sets(request: Request) -> dict[str, Any]:
    """The tile matrix sets (OGC Two Dimensional Tile Matrix Set 2.0)."""
    base = f"{base_url(request)}/tileMatrixSets"
    return {
        "tileMatrixSets": [
            {
                "id": name,
                "title": tms.title or name,
                # By it clients find the tile sets of a collection, whose documents name it as well.
                **({"uri": str(tms.uri)} if tms.uri else {}),
                "crs": tms.crs.model_dump(mode="json"),
                "links": [{"rel": "self", "type": "application/json", "href": f"{base}/{name}"}],
            }
            for name, tms in tile_matrix_sets().items()
        ]
    }


@router.get("/tileMatrixSets/{tms}", responses={200: json_answer(schemas.TILE_MATRIX_SET)})
async def get_tile_matrix_set(tms: Tms) -> dict[str, Any]:
    """One tile matrix set: CRS, and the corner and cells of each zoom."""
    found: dict[str, Any] = tile_matrix_set(tms).model_dump(mode="json", exclude_none=True)
    return found
