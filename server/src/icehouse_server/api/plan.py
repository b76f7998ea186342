"""``/collections/{id}/plan``: what a request would need; nothing is fetched."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from icehouse_server.api.parameters import CoverageBody, CoverageQuery
from icehouse_server.api.state import ApiState, Spec, State
from icehouse_server.api.tokens import reads_only
from icehouse_server.service import Ask

router = APIRouter(tags=["coverage"])


class WindowDocument(BaseModel):
    """A pixel rectangle of the collection's grid."""

    row: int
    col: int
    height: int
    width: int


class ChunksDocument(BaseModel):
    """Chunks of the collection, counted over all bands asked for."""

    needed: int
    present: int
    absent: int
    void: int
    """Those of the present ones of which the source said that there is nothing."""


class PlanDocument(BaseModel):
    """What a request would need."""

    collection: str
    snapshot: str
    bands: list[str]
    window: WindowDocument | None
    chunks: ChunksDocument
    estimated_source_bytes: int
    """Bytes of the absent chunks, uncompressed: an upper estimate of what the source is asked for."""
    output_bytes: int
    aligned: bool
    """True when the pixels are copied, not resampled."""


@router.get("/collections/{collection}/plan")
async def get_plan(state: State, spec: Spec, query: Annotated[CoverageQuery, Depends()]) -> PlanDocument:
    """What a region would need: chunks present, absent and void, and bytes. Nothing is fetched."""
    return await _plan(state, query.ask(spec))


@router.post("/collections/{collection}/plan")
@reads_only
async def post_plan(state: State, spec: Spec, body: CoverageBody) -> PlanDocument:
    """The same by JSON body."""
    return await _plan(state, await body.ask(spec))


async def _plan(state: ApiState, ask: Ask) -> PlanDocument:
    plan, snapshot = await state.service.plan_of(ask)
    window = plan.window
    needed, absent = len(plan.needed), len(plan.absent)
    return PlanDocument(
        collection=ask.region.collection.id,
        snapshot=snapshot,
        bands=[band.name for band in ask.region.bands],
        window=None
        if window is None
        else WindowDocument(row=window.row, col=window.col, height=window.height, width=window.width),
        chunks=ChunksDocument(
            needed=needed, present=needed - absent, absent=absent, void=await state.service.voids(plan)
        ),
        # A past snapshot is read as it is: nothing is fetched for it.
        estimated_source_bytes=plan.estimated_source_bytes if ask.snapshot is None else 0,
        output_bytes=plan.output_bytes,
        aligned=plan.footprint.aligned,
    )
