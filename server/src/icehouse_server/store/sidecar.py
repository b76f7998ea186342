"""The one SQLite file next to the repositories: what is nice to have and not truth.

Losing it costs some requests to sources, and the order of eviction. A file that SQLite can't read is set
aside.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from threading import Lock

import structlog

from icehouse_server.aio.worker_pool import run_in

log = structlog.get_logger(__name__)

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, body TEXT, stored REAL NOT NULL)",
    """CREATE TABLE IF NOT EXISTS chunks (
        collection TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL,
        PRIMARY KEY (collection, path)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS chunks_used ON chunks (used)",
)


class SidecarDb:
    """The file: one connection, used by one thread at a time."""

    def __init__(self, path: Path, pool: Executor) -> None:
        self._pool = pool
        self._lock = Lock()
        self._connection = _connect(path)

    async def run[T](self, work: Callable[[sqlite3.Connection], T], *, otherwise: T, what: str) -> T:
        """Do something with the file in a transaction, in the pool.

        Args:
            work: gets the connection; runs in a thread.
            otherwise: what to return when SQLite fails: nothing here is worth failing a request.
            what: for the log, such as "a document could not be remembered".
        """
        return await run_in(self._pool, self._run, work, otherwise, what)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._connection.close()

    def _run[T](self, work: Callable[[sqlite3.Connection], T], otherwise: T, what: str) -> T:
        try:
            with self._lock, self._connection:
                return work(self._connection)
        except sqlite3.Error as error:
            log.warning(what, error=str(error))
            return otherwise


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; where it can't be had, notes are kept in memory until the daemon stops."""
    try:
        return _open_or_replace(path)
    except (OSError, sqlite3.Error) as error:
        log.warning("the file of notes can't be used; notes are kept in memory", error=str(error))
        return _open(":memory:")


def _open_or_replace(path: Path) -> sqlite3.Connection:
    try:
        return _open(path)
    except sqlite3.OperationalError:  # no such folder, no right to write: the file is not at fault
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_suffix(".damaged")
        log.warning("the file of notes is damaged; set aside", error=str(error), aside=aside.name)
        path.replace(aside)
        for end in ("-wal", "-shm"):  # a new file must not play the old one's log
            path.with_name(path.name + end).unlink(missing_ok=True)
        return _open(path)


def _open(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.commit()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
