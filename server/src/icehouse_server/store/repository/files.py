"""The files of a repository, for Icechunk's own readers."""

import re
import stat
from contextlib import suppress
from pathlib import Path

from icehouse_server.core.errors import UnknownKeyError

_PATH = re.compile(
    r"repo|config\.yaml"
    r"|(?:chunks|manifests|snapshots|transactions)/[0-9A-Z]{20}"
    r"|overwritten/repo\.[0-9]{1,20}\.[0-9A-Z]{20}"
)
"""What Icechunk's format 2 has, by its names: nothing in them that a path could give another meaning."""

_SNAPSHOT = "snapshots/"


def snapshot_of(path: str) -> str | None:
    """Return the snapshot that a file is, or None."""
    return path.removeprefix(_SNAPSHOT) if path.startswith(_SNAPSHOT) else None


def file_size(folder: Path, path: str) -> int:
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
