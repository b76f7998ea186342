"""``/collections/{id}/legend``: what the colours of a style mean."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from starlette.concurrency import run_in_threadpool

from icehouse_server import output
from icehouse_server.api.openapi import schemas
from icehouse_server.api.openapi.schemas import json_answer
from icehouse_server.api.parameters.documents import TAKES_JSON
from icehouse_server.api.parameters.styles import StyleQuery
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.state import Spec

router = APIRouter(tags=["tiles"], dependencies=[LENIENT])

_PNG: dict[int | str, dict[str, object]] = {
    200: {"description": "The legend.", "content": {"image/png": {"schema": schemas.BINARY}}}
}


@router.get(
    "/collections/{collection}/legend.json",
    dependencies=[TAKES_JSON],
    responses={200: json_answer(schemas.LEGEND)},
)
async def get_legend(spec: Spec, query: Annotated[StyleQuery, Depends()]) -> dict[str, Any]:
    """What the colours mean: values in the band's units, and their colours."""
    style = query.wanted(spec)
    legend = await run_in_threadpool(output.legend_of, style, spec)
    return {
        "style": style.name,
        "title": style.title,
        "kind": legend.kind,
        "units": legend.units,
        "bands": list(style.bands),
        "rescale": None if style.rescale is None else [list(pair) for pair in style.rescale],
        "stops": [list(stop) for stop in legend.stops],
    }


@router.get("/collections/{collection}/legend.png", responses=_PNG, response_class=Response)
async def get_legend_picture(spec: Spec, query: Annotated[StyleQuery, Depends()]) -> Response:
    """The same as a picture."""
    picture = await run_in_threadpool(output.legend_png, query.wanted(spec), spec)
    return Response(picture, media_type="image/png")
