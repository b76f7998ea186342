"""The cache folder as a crash leaves it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_TRIES = 30


class UnrestError(Exception):
    """The folder changed all the while."""


def copy_as_a_crash_leaves_it(folder: Path, copied: Path) -> None:
    """Copy a folder as it is at one moment, as a process finds it whose predecessor was killed then.

    Files are linked, not copied: Icechunk never changes one in its place. The moment is any at which nothing
    changes for as long as linking takes, so that what is copied did exist at once. SQLite's file is copied.

    Raises:
        UnrestError: there was no such moment.
    """
    for _ in range(_TRIES):
        before = sorted(_files(folder))
        try:
            for path, _ in before:
                _take(folder / path, copied / path)
        except FileNotFoundError:
            pass  # it went while it was linked: not at one moment
        else:
            if sorted(_files(folder)) == before:
                return
        shutil.rmtree(copied)
    raise UnrestError(f"{folder.name} changed all the while")


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name.startswith("notes.sqlite"):
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def _files(folder: Path, below: str = "") -> Iterator[tuple[str, int]]:
    """List the files in a folder with their inodes: a file that is replaced gets another one."""
    try:
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name = os.path.join(below, entry.name)  # noqa: PTH118 - of one part below the folder
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(folder, name)
                else:
                    yield name, entry.inode()
    except FileNotFoundError:
        return
