"""Upkeep of the cache folder: its size, and files that Icechunk leaves behind. Blocking."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_DRAFT = re.compile(r".*#[0-9]+")
"""Names of files that Icechunk's object store was writing when the process was killed."""

_COPIES_KEPT = 2
"""Newest copies of the repository object that stay: the one that a reader may be about to ask for."""


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder; files that vanish meanwhile are passed over."""
    return sum(size for _, size in _files(folder))


def trim(folder: Path) -> int:
    """Delete what Icechunk 2.3 never collects. Must run in the writer's turn, after a collection.

    These are copies of the repository object (``overwritten/``, one a commit: 33 MB per thousand),
    transaction logs of snapshots that are gone, and drafts of files that a killed process was writing.

    Returns:
        Bytes that were freed.
    """
    freed = 0
    for path, size in list(_stale(folder)):
        path.unlink(missing_ok=True)
        freed += size
    return freed


def _stale(folder: Path) -> Iterator[tuple[Path, int]]:
    # Their names begin with a number that falls as time goes on.
    copies = sorted(_files(folder / "overwritten"), key=lambda entry: entry[0].name)
    yield from copies[_COPIES_KEPT:]
    snapshots = {path.name for path, _ in _files(folder / "snapshots")}
    yield from ((path, size) for path, size in _files(folder / "transactions") if path.name not in snapshots)
    for place in ("chunks", "manifests", "snapshots", ""):
        yield from (
            (path, size) for path, size in _files(folder / place, deep=False) if _DRAFT.fullmatch(path.name)
        )


def _files(folder: Path, *, deep: bool = True) -> Iterator[tuple[Path, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if deep:
                        yield from _files(Path(entry.path))
                    continue
                try:
                    yield Path(entry.path), entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return
