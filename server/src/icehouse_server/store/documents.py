"""Documents that sources remember, in one SQLite file beside the repositories.

Nothing here is truth: losing the file costs some requests. A file that SQLite can't read is set aside.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from threading import Lock

import structlog

from icehouse_server.core.ports import StoredDocument

log = structlog.get_logger(__name__)

_SCHEMA = "CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, body TEXT, stored REAL NOT NULL)"


class SqliteDocuments:
    """The port ``Documents`` on SQLite; one connection, used by one thread at a time."""

    def __init__(self, path: Path, pool: Executor, *, clock: Callable[[], float] = time.time) -> None:
        self._pool = pool
        self._clock = clock
        self._lock = Lock()
        self._connection = _connect(path)

    async def get(self, key: str) -> StoredDocument | None:
        """Return what was stored under a key, or None."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._get, key)

    async def put(self, key: str, body: str | None) -> None:
        """Store JSON text, or that there is none."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._put, key, body)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._connection.close()

    def _get(self, key: str) -> StoredDocument | None:
        try:
            with self._lock:
                found = self._connection.execute(
                    "SELECT body, stored FROM documents WHERE key = ?", (key,)
                ).fetchone()
        except sqlite3.Error as error:
            log.warning("a remembered document could not be read", key=key, error=str(error))
            return None
        if found is None:
            return None
        return StoredDocument(body=found[0], age=max(0.0, self._clock() - found[1]))

    def _put(self, key: str, body: str | None) -> None:
        try:
            with self._lock, self._connection:
                self._connection.execute(
                    "INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (key, body, self._clock())
                )
        except sqlite3.Error as error:
            log.warning("a document could not be remembered", key=key, error=str(error))


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.OperationalError:  # no such folder, no right to write: the file is not at fault
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_suffix(".damaged")
        log.warning(
            "the file of remembered documents is damaged; set aside", error=str(error), aside=aside.name
        )
        path.replace(aside)
        for end in ("-wal", "-shm"):  # a new file must not play the old one's log
            path.with_name(path.name + end).unlink(missing_ok=True)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        connection.commit()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
