"""``/collections/{id}/plan``: what a request would need; nothing is fetched."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, NonNegativeInt

from icehouse_server.api.middleware.tokens import reads_only
from icehouse_server.api.openapi.schemas import link
from icehouse_server.api.parameters.coverage import CoverageBody, CoverageQuery
from icehouse_server.api.parameters.documents import TAKES_JSON
from icehouse_server.api.state import ApiState, Spec, State
from icehouse_server.service import CoverageRequest

router = APIRouter(tags=["coverage"])

_LINKS = {
    "coverage": link(
        "get_coverage",
        "The region that was planned.",
        collection="$response.body#/collection",
        bbox="$request.query.bbox",
        bbox_crs="$request.query.bbox-crs",
    )
}
_POST_STATUSES: dict[int | str, dict[str, object]] = {
    200: {"description": "What the region would need."},
    204: {"description": "The region lies outside the collection."},
}
_GET_STATUSES: dict[int | str, dict[str, object]] = {
    **_POST_STATUSES,
    200: {"description": "What the region would need.", "links": _LINKS},
}


class WindowDocument(BaseModel):
    """A pixel rectangle of the collection's grid at the level that is read."""

    row: NonNegativeInt
    col: NonNegativeInt
    height: NonNegativeInt
    width: NonNegativeInt


class ChunksDocument(BaseModel):
    """Chunks of the collection, counted over all bands and time steps asked for."""

    needed: NonNegativeInt
    present: NonNegativeInt
    absent: NonNegativeInt
    void: NonNegativeInt
    """Those of the present ones of which the source said that there is nothing."""


class PlanDocument(BaseModel):
    """What a request would need."""

    collection: str
    snapshot: str
    bands: list[str]
    datetime: list[str] | None
    """The time steps, as intervals; None where the collection has no time axis."""
    level: NonNegativeInt
    """Level that is read: 0 is the full resolution."""
    window: WindowDocument | None
    chunks: ChunksDocument
    estimated_source_bytes: NonNegativeInt
    """Bytes of the absent chunks, uncompressed: an upper estimate of what the source is asked for."""
    output_bytes: NonNegativeInt
    aligned: bool
    """True when the pixels are copied, not resampled."""


@router.get("/collections/{collection}/plan", dependencies=[TAKES_JSON], responses=_GET_STATUSES)
async def get_plan(state: State, spec: Spec, query: Annotated[CoverageQuery, Depends()]) -> PlanDocument:
    """What a region would need: chunks present, absent and void, and bytes. Nothing is fetched."""
    return await _plan(state, query.coverage_request(spec))


@router.post("/collections/{collection}/plan", dependencies=[TAKES_JSON], responses=_POST_STATUSES)
@reads_only
async def post_plan(state: State, spec: Spec, body: CoverageBody) -> PlanDocument:
    """The same by JSON body."""
    return await _plan(state, await body.coverage_request(spec))


async def _plan(state: ApiState, wanted: CoverageRequest) -> PlanDocument:
    plan, snapshot = await state.planner.plan_at(wanted.region, wanted.snapshot)
    window = plan.window
    needed, absent = len(plan.needed), len(plan.absent)
    return PlanDocument(
        collection=wanted.region.collection.id,
        snapshot=snapshot,
        bands=[band.name for band in wanted.region.bands],
        datetime=None if wanted.region.times is None else [str(step) for step in wanted.region.steps],
        level=wanted.region.level,
        window=None
        if window is None
        else WindowDocument(row=window.row, col=window.col, height=window.height, width=window.width),
        chunks=ChunksDocument(
            needed=needed, present=needed - absent, absent=absent, void=await state.planner.voids(plan)
        ),
        # A past snapshot is read as it is: nothing is fetched for it.
        estimated_source_bytes=plan.estimated_source_bytes if wanted.snapshot is None else 0,
        output_bytes=plan.output_bytes,
        aligned=plan.footprint.aligned,
    )
