"""When each cached chunk was last used, and the bytes it takes: what eviction goes by. Not truth."""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from icehouse_server.core.grid import ChunkKey
from icehouse_server.store.sidecar import SidecarDb

_MOST_UNSAVED = 50_000
"""Chunks whose use is kept in memory at most; further ones wait for the next save."""

_PAGE = 2000
"""Rows that are read or written at a time: other threads get their turn in between."""


class Usage:
    """Last use and size of the chunks of all collections. Runs on one event loop."""

    def __init__(self, notes: SidecarDb, *, clock: Callable[[], float] = time.time) -> None:
        self._notes = notes
        self._clock = clock
        self._used: dict[ChunkKey, float] = {}
        self._written: dict[ChunkKey, int] = {}
        self._saving = asyncio.Lock()

    def touch(self, keys: Iterable[ChunkKey]) -> None:
        """Note that chunks were read now."""
        if len(self._used) < _MOST_UNSAVED:
            self._used.update(dict.fromkeys(keys, self._clock()))

    def wrote(self, sizes: Iterable[tuple[ChunkKey, int]]) -> None:
        """Note that chunks were committed now, with their bytes as stored."""
        now = self._clock()
        for key, size in sizes:
            self._written[key] = size
            self._used[key] = now

    async def save(self) -> None:
        """Write down what was noted since the last time."""
        async with self._saving:
            used, self._used = self._used, {}
            written, self._written = self._written, {}
            new = [(key.collection, key.path, size, used.pop(key, 0.0)) for key, size in written.items()]
            read = [(at, key.collection, key.path) for key, at in used.items()]
            await self._write("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)", new)
            await self._write("UPDATE chunks SET used = ? WHERE collection = ? AND path = ?", read)

    async def forget(self, keys: Sequence[ChunkKey]) -> None:
        """Drop what is known of chunks that are gone."""
        for key in keys:
            self._used.pop(key, None)
            self._written.pop(key, None)
        gone = [(key.collection, key.path) for key in keys]
        async with self._saving:  # what is being saved may know them still
            await self._write("DELETE FROM chunks WHERE collection = ? AND path = ?", gone)

    async def oldest(self, size: int, collections: Iterable[str]) -> list[ChunkKey]:
        """Return the chunks of collections that were used longest ago and take ``size`` bytes together."""
        await self.save()
        names = tuple(collections)
        marks = ", ".join("?" * len(names))
        query = f"SELECT collection, path, bytes FROM chunks WHERE collection IN ({marks}) ORDER BY used"  # noqa: S608

        def read(connection: sqlite3.Connection) -> list[ChunkKey]:
            found: list[ChunkKey] = []
            got = 0
            for collection, path, taken in connection.execute(query, names):
                if got >= size:
                    break
                found.append(ChunkKey.from_path(collection, path))
                got += taken
            return found

        return await self._notes.run(read, otherwise=[], what="the order of eviction could not be read")

    async def adopt(self, keys: Iterable[ChunkKey], size: int) -> None:
        """Take in chunks of which nothing is known, as used longest ago, with a guess of their bytes."""
        rows = ((key.collection, key.path, size) for key in keys)
        await self._write("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, 0)", rows)

    async def _write(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        for page in itertools.batched(rows, _PAGE):
            write = partial(_execute, statement=statement, rows=page)
            await self._notes.run(write, otherwise=None, what="the use of chunks could not be noted")


def _execute(connection: sqlite3.Connection, *, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    connection.executemany(statement, rows)
