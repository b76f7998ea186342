"""The positions that a job is about, level by level; one that is about too much is refused."""

from concurrent.futures import Executor

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.area import Area, area_under, check_area, whole
from icehouse_server.core.errors import OutsideError
from icehouse_server.service.jobs.job import JobKind, JobSpec
from icehouse_server.store import Store


async def areas_of(spec: JobSpec, store: Store, *, max_chunks: int, pool: Executor) -> dict[int, Area]:
    """Return the area of each level that a job is about.

    Args:
        spec: what the job is to do.
        store: knows of which levels something is cached.
        max_chunks: what a seed is about at most, over all bands.
        pool: computes.

    Raises:
        OutsideError: the job is about nothing.
        TooLargeError: it is about too many chunks.
    """
    if spec.collection is None:
        return {}
    levels = spec.levels
    if levels is None:
        levels = tuple(sorted({0, *store.collection(spec.collection.id).index.counts}))
    areas: dict[int, Area] = {}
    for level in levels:
        grid = spec.collection.grids[level]
        if spec.target is None:
            areas[level] = whole(grid)
            continue
        most = max_chunks // spec.chunks_per_position
        area = await run_in(pool, area_under, grid, spec.target, most, spec.clip)
        if area is not None:
            areas[level] = area
    if not areas:
        raise OutsideError("the region lies outside the collection")
    if spec.kind is JobKind.SEED:
        asked = sum(area.size for area in areas.values()) * spec.chunks_per_position
        check_area(asked, max_chunks)
    return areas
