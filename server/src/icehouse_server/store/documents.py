"""Documents that sources remember: item documents, and that there is none."""

import sqlite3
import time
from collections.abc import Callable

from icehouse_server.core.ports import StoredDocument
from icehouse_server.store.sidecar import SidecarDb


class SqliteDocuments:
    """The port ``Documents`` on the file of notes."""

    def __init__(self, notes: SidecarDb, *, clock: Callable[[], float] = time.time) -> None:
        self._notes = notes
        self._clock = clock

    async def get(self, key: str) -> StoredDocument | None:
        """Return what was stored under a key, or None."""

        def read(connection: sqlite3.Connection) -> tuple[str | None, float] | None:
            rows = connection.execute("SELECT body, stored FROM documents WHERE key = ?", (key,))
            found: tuple[str | None, float] | None = rows.fetchone()
            return found

        row = await self._notes.run(read, otherwise=None, what="a remembered document could not be read")
        if row is None:
            return None
        return StoredDocument(body=row[0], age=max(0.0, self._clock() - row[1]))

    async def put(self, key: str, body: str | None) -> None:
        """Store JSON text, or that there is none."""

        def write(connection: sqlite3.Connection) -> None:
            row = key, body, self._clock()
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", row)

        await self._notes.run(write, otherwise=None, what="a document could not be remembered")
