"""What a request would need: planned on the loop where that is quick, else in the pool."""

from concurrent.futures import Executor
from dataclasses import replace

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.limits import Limits
from icehouse_server.core.plan import Plan, Region, make_plan
from icehouse_server.store import Store

_QUICK_PIXELS = 2_000_000
"""A plan of no more pixels takes a few milliseconds and is made on the loop; a larger one in the pool."""


class Planner:
    """Plans requests for the open collections; nothing is fetched. Runs on one event loop."""

    def __init__(self, store: Store, limits: Limits, *, pool: Executor) -> None:
        self._store = store
        self._limits = limits
        self._pool = pool

    async def plan(self, region: Region) -> Plan:
        """Return what a request would need.

        Raises:
            TooLargeError: it is over a limit.
        """
        index = self._store.collection(region.collection.id).index
        rows, cols = region.shape
        if rows * cols <= _QUICK_PIXELS:
            return make_plan(region, index, self._limits)
        return await run_in(self._pool, make_plan, region, index, self._limits)

    async def plan_at(self, region: Region, snapshot: str | None) -> tuple[Plan, str]:
        """Return what a request would need of a snapshot, and that snapshot's id.

        Args:
            region: what is asked for.
            snapshot: id or tag of a past snapshot; None is the newest.

        Raises:
            TooLargeError: it is over a limit.
            UnknownSnapshotError: the past snapshot does not exist.
        """
        plan = await self.plan(region)
        store = self._store.collection(region.collection.id)
        if snapshot is None:
            return plan, store.snapshot
        async with store.lease(snapshot) as lease:
            return replace(plan, absent=await store.absent(lease, plan.needed)), lease.snapshot

    async def voids(self, plan: Plan) -> int:
        """Return how many of a plan's cached chunks are void."""
        absent = set(plan.absent)
        store = self._store.collection(plan.region.collection.id)
        return await store.void_scan.count([key for key in plan.needed if key not in absent])
