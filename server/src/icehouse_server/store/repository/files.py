"""The files of a repository, for Icechunk's own readers."""

import re
import stat
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import StoreError, UnknownKeyError
from icehouse_server.store.repository.head import Head
from icehouse_server.store.repository.leases import Leases

_PATH = re.compile(
    r"repo|config\.yaml"
    r"|(?:chunks|manifests|snapshots|transactions)/[0-9A-Z]{20}"
    r"|overwritten/repo\.[0-9]{1,20}\.[0-9A-Z]{20}"
)
"""What Icechunk's format 2 has, by its names: nothing in them that a path could give another meaning."""

_SNAPSHOT = "snapshots/"


class RepositoryFiles:
    """The files of one repository, as its readers over HTTP ask for them."""

    def __init__(self, folder: Path, head: Head, leases: Leases, pool: Executor) -> None:
        self._folder = folder
        self._head = head
        self._leases = leases
        self._pool = pool

    async def size(self, path: str) -> int:
        """Return the size of one of the repository's own files, and pin what its reader reads.

        Raises:
            UnknownKeyError: there is no such file.
        """
        # Before the look, so that nothing collects in between. The tip covers all that comes after it.
        self._leases.pins.touch(self._head.snapshot if path == "repo" else None)
        size = await run_in(self._pool, _size_of, self._folder, path)
        named = _snapshot_of(path)
        if named is not None:
            self._leases.pins.touch(named)
        return size

    async def read(self, path: str) -> bytes:
        """Read a file that ``size`` has found.

        Raises:
            UnknownKeyError: it is gone.
            StoreError: it can't be read.
        """
        try:
            return await run_in(self._pool, (self._folder / path).read_bytes)
        except FileNotFoundError:
            raise UnknownKeyError(f"the file {path!r} is gone") from None
        except OSError as error:
            raise StoreError(f"the file {path!r} can't be read: {error.strerror}") from error


def _snapshot_of(path: str) -> str | None:
    """Return the snapshot that a file is, or None."""
    return path.removeprefix(_SNAPSHOT) if path.startswith(_SNAPSHOT) else None


def _size_of(folder: Path, path: str) -> int:
    """Return the size of a file of a repository. Blocking.

    Raises:
        UnknownKeyError: the repository has no such file.
    """
    if _PATH.fullmatch(path):
        with suppress(FileNotFoundError, NotADirectoryError):
            found = (folder / path).lstat()
            if stat.S_ISREG(found.st_mode):
                return found.st_size
    raise UnknownKeyError(
        f"the repository has no file {path[:80]!r}", hint="read it with icechunk.http_storage"
    )
