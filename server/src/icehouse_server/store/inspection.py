"""A look at what a repository holds, without the cache folder's lock: nothing is created or changed."""

from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import icechunk
import zarr

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.store.layout import layout
from icehouse_server.store.repository.index import Index
from icehouse_server.store.translate_errors import translate_errors


async def inspect_repository(spec: CollectionSpec, folder: Path, pool: Executor) -> Index:
    """Return which chunks the repository in a folder holds now; none where there is none.

    Raises:
        RepositoryForeignError: the folder holds something else.
        StoreError: it can't be read.
    """

    def look() -> tuple[icechunk.Session, tuple[BandSpec, ...]] | None:
        if not folder.exists():
            return None
        storage = icechunk.local_filesystem_storage(str(folder))
        session = icechunk.Repository.open(storage).readonly_session("main")
        lacking = layout.check(spec, zarr.open_group(session.store, mode="r"))
        return session, tuple(band for band in spec.bands if band not in lacking)

    with translate_errors(f"the repository of collection {spec.id!r} can't be read"):
        found = await run_in(pool, look)
        if found is None:
            return Index(spec)
        session, bands = found
        there = replace(spec, bands=bands, default_bands=(bands[0].name,), styles=())
        return await Index.load(there, session)
