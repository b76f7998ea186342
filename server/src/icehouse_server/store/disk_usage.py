"""Upkeep of the cache folder: its size, and files that Icechunk leaves behind. Blocking."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_DRAFT = re.compile(r".*#[0-9]+")
"""Names of files that Icechunk's object store was writing when the process was killed."""

_COPIES_KEPT = 2
"""Newest copies of the repository object that stay: the one that a reader may be about to ask for."""


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder; files that vanish meanwhile are passed over."""
    total = 0
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            total += folder_bytes(Path(entry.path))
        else:
            with suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def trim(folder: Path) -> int:
    """Delete what Icechunk 2.3 never collects. Must run in the writer's turn, after a collection.

    These are copies of the repository object (``overwritten/``, one a commit: 33 MB per thousand),
    transaction logs of snapshots that are gone, and drafts of files that a killed process was writing.

    Returns:
        Bytes that were freed.
    """
    freed = 0
    for path in list(_stale(folder)):
        with suppress(FileNotFoundError):
            freed += path.stat().st_size
            path.unlink()
    return freed


def _stale(folder: Path) -> Iterator[Path]:
    # Their names begin with a number that falls as time goes on.
    copies = sorted(entry.name for entry in _entries(folder / "overwritten"))
    yield from (folder / "overwritten" / name for name in copies[_COPIES_KEPT:])
    snapshots = {entry.name for entry in _entries(folder / "snapshots")}
    logs = (entry for entry in _entries(folder / "transactions") if entry.name not in snapshots)
    yield from (Path(entry.path) for entry in logs)
    for place in ("chunks", "manifests", "snapshots", ""):
        drafts = (entry for entry in _entries(folder / place) if _DRAFT.fullmatch(entry.name))
        yield from (Path(entry.path) for entry in drafts)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries
