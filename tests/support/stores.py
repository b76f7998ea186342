"""A store of its own for a test: opened with its notes, and closed with them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.store import SidecarDb, Store, StoreSettings


@asynccontextmanager
async def open_store(
    folder: Path, specs: Iterable[CollectionSpec], settings: StoreSettings, *, pool: Executor
) -> AsyncIterator[Store]:
    """Open a store in a folder, as the composition root does; maintenance runs only when it is called."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    notes = SidecarDb(folder / "notes.sqlite", pool)
    try:
        store = await Store.open(folder, specs, settings, notes=notes, pool=pool)
        try:
            yield store
        finally:
            await store.close()
    finally:
        notes.close()
