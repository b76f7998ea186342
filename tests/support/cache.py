"""A cache at work: store, downloads and service on scripted sources, held against ledgers at each step."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.plan import Region
from icehouse_server.downloads import Downloads, DownloadSettings, RetryPolicy
from icehouse_server.service import CoverageRequest, ServiceParts, ServiceSettings
from icehouse_server.store import CollectionStore, Store, StoreSettings
from icehouse_server.store.disk_usage import folder_bytes
from icehouse_server.testing.fakes import tiny_spec
from support.changing import ChangingSource, ChangingTruth
from support.ledger import Ledger, stored_versions
from support.services import open_services

SPECS = {
    "tiny": tiny_spec(rows=70, cols=90, chunk=32),
    "other": tiny_spec("other", rows=40, cols=60, chunk=32),
}
"""Two collections of a few chunks."""

BOTH = ("dem", "mask")
"""Their bands."""

_VOID = frozenset({(0, 0), (2, 1)})
_PATIENCE = 20.0


def make_ledgers() -> dict[str, Ledger]:
    """Return the ledgers of an empty cache, with sources of their own."""
    ledgers = {}
    for name, spec in SPECS.items():
        truth = ChangingTruth(spec=spec, void=_VOID)
        ledgers[name] = Ledger(truth=truth, source=ChangingSource(truth=truth))
    return ledgers


def whole(name: str) -> Window:
    """Return the window of a collection's whole grid."""
    return SPECS[name].grid.window


@dataclass(kw_only=True)
class Cache:
    """An open cache. What is done to it is noted in the ledgers, and what comes out is checked.

    Attributes:
        store: the repositories.
        downloads: from the ledgers' sources.
        service: what answers.
        ledgers: by collection.
        forgets_history: called when past snapshots of a collection may go from now on.
    """

    store: Store
    downloads: Downloads
    service: ServiceParts
    ledgers: Mapping[str, Ledger]
    forgets_history: Callable[[str], None] = field(default=lambda _: None)

    @property
    def collections(self) -> Mapping[str, CollectionStore]:
        """The repositories by collection."""
        return self.store.collections

    @property
    def on_disk(self) -> int:
        """Bytes of the repositories."""
        return folder_bytes(self.store.folder / "collections")

    def ask(self, name: str, window: Window, bands: tuple[str, ...], **options: object) -> CoverageRequest:
        """Return a request for a window of the grid."""
        spec = SPECS[name]
        region = Region(collection=spec, bands=spec.select(bands), target=spec.grid.geobox_of(window))
        return CoverageRequest(region=region, **options)  # type: ignore[arg-type]

    async def load(self, name: str, window: Window, bands: tuple[str, ...], **options: object) -> set[str]:
        """Load a window, hold each chunk of it against what the cache may give; return what failed."""
        ledger = self.ledgers[name]
        since = ledger.begin()
        answer = await self.service.coverages.coverage(self.ask(name, window, bands, **options))
        answer.close()
        missing = {failure.chunk for failure in answer.coverage.failed}
        ledger.check_pixels(answer.coverage.bands, window, since, missing)
        return missing

    async def refresh(self, name: str, keys: Collection[ChunkKey]) -> set[str]:
        """Fetch again, and return what failed; the rest is as new as the source was when this began."""
        ledger = self.ledgers[name]
        since = ledger.begin()
        versions = {key: ledger.now(key) for key in keys}
        ensured = await self.downloads.ensure(
            SPECS[name], sorted(keys, key=str), timeout=_PATIENCE, again=True
        )
        failed = {failure.chunk for failure in ensured.failed}
        for key, version in versions.items():
            if key.path not in failed:
                ledger.tell(key, version, since)
        return failed

    async def drop(self, name: str, keys: Collection[ChunkKey]) -> int:
        """Drop chunks; return how many were there."""
        with self.ledgers[name].removal(keys):
            return await self.collections[name].drop(sorted(keys, key=str), "drop")

    async def collect(self, name: str, keep: float) -> None:
        """Collect garbage."""
        if keep == 0:
            self.forgets_history(name)
        await self.collections[name].collect(keep)

    async def evict(self, share: float) -> int:
        """Run maintenance with a limit of such a share of what is on disk; return the limit."""
        room = self.store.room
        with ExitStack() as removals:
            for name, ledger in self.ledgers.items():
                self.forgets_history(name)
                removals.enter_context(ledger.removal(ledger.keys_under(whole(name), BOTH)))
            room.limit = limit = int(share * self.on_disk)
            try:
                await self.store.maintenance.run_once()
            finally:
                room.limit = None
                room.measured(room.bytes)  # who waits for room looks again
        return limit

    async def settle(self, leases: Mapping[str, int]) -> None:
        """Wait until nothing is under way, and hold what the repositories hold against the ledgers.

        Args:
            leases: how many are meant to be held, by collection.
        """
        while (now := self.downloads.snapshot()).running or now.queued:  # noqa: ASYNC110 - a caller hung up
            await asyncio.sleep(0.001)
        assert self.downloads.snapshot().flights == 0
        assert self.service.admission.budget.held == 0
        assert self.store.room._waiting == []
        for name, collection in self.collections.items():
            await collection.writer.turn(_nothing)
            assert collection.writer.waiting == 0
            assert collection.leases == leases.get(name, 0)
            tip = await collection.head.repository.lookup_branch_async("main")
            assert collection.snapshot == tip
            ledger = self.ledgers[name]
            ledger.settle(await stored_versions(collection, ledger.truth), collection.index)


@asynccontextmanager
async def open_cache(
    folder: Path,
    ledgers: Mapping[str, Ledger],
    *,
    pool: Executor,
    decoded: int = 20_000,
    unwanted: float = 30.0,
) -> AsyncIterator[Cache]:
    """Open a cache in a folder.

    Args:
        folder: may be one that another cache has left, or that a crash has.
        ledgers: as ``make_ledgers`` returns them.
        pool: threads.
        decoded: bytes for decoded chunks.
        unwanted: seconds for which a block goes on that no caller waits for.
    """
    options = StoreSettings(decoded_cache_bytes=decoded, write_timeout=_PATIENCE)
    limits = DownloadSettings(block_side=64, failure_ttl=0, unwanted=unwanted, retry=RetryPolicy(attempts=1))
    sources = {name: ledger.source for name, ledger in ledgers.items()}
    chosen = ServiceSettings(request_timeout=_PATIENCE, disk_floor=0)
    async with open_services(
        folder, SPECS.values(), sources, pool=pool, store=options, downloads=limits, service=chosen
    ) as made:
        yield Cache(store=made.store, downloads=made.downloads, service=made.service, ledgers=ledgers)


async def _nothing() -> None:
    """Do nothing, in the writer's turn."""
