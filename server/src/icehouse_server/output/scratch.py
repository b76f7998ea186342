"""Answers too large for memory: files on the cache's disk, without a name as soon as they are written."""

import contextlib
import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from icehouse_server.core.errors import DiskFullError

FOLDER = "answers"
"""Name of the folder of such files in the cache folder."""

_LEAST_FREE = 16 * 1024**2
"""Bytes below which a disk counts as full where a file can't be written: GDAL and HDF5 hide why."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FilePart:
    """A part of an answer that lies on disk. The file has no name, and is gone with this object."""

    def __init__(self, path: Path) -> None:
        """Open a file, and take its name away."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        path.unlink()
        self._size = os.fstat(self._file).st_size

    def __len__(self) -> int:
        """Bytes in all."""
        return self._size

    def read(self, start: int, stop: int) -> bytes:
        """Return some of its bytes. Blocking."""
        return os.pread(self._file, stop - start, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Where encoders write what is too large for memory."""

    folder: Path | None = None
    """Where the files lie; None where all is made in memory."""
    above: int = 8 * 1024**2
    """Bytes of pixels from which a file is made."""

    @classmethod
    def in_cache(cls, cache: Path) -> "Scratch":
        """Make the folder in a cache folder, and remove what a daemon that was killed has left there."""
        folder = cache / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.iterdir():
            with contextlib.suppress(OSError):
                left.unlink()
        return cls(folder=folder)

    def wanted(self, size: int) -> bool:
        """Return whether an answer of this many bytes of pixels is made as a file."""
        return self.folder is not None and size > self.above

    @contextlib.contextmanager
    def path(self, suffix: str, *, expected: int) -> Iterator[Path]:
        """Give the path of a file that is to be written, for a block; it is gone afterwards.

        Args:
            suffix: of its name.
            expected: bytes that it may have.

        Raises:
            DiskFullError: it does not fit on the disk.
        """
        if self.folder is None:
            raise ValueError("there is no folder for files")
        free = shutil.disk_usage(self.folder).free
        if free < expected:
            raise DiskFullError(
                f"this answer may need {expected} bytes of the cache folder's disk, which has {free} left",
                hint="free space on the disk of the cache folder, or ask for less at a time",
            )
        handle, name = tempfile.mkstemp(suffix, dir=self.folder)
        os.close(handle)
        path = Path(name)
        try:
            yield path
        except Exception as error:
            if _is_full(error, self.folder):
                raise DiskFullError(
                    "the cache folder's disk has no room for this answer",
                    hint="free space on the disk of the cache folder, or ask for less at a time",
                ) from error
            raise
        finally:
            path.unlink(missing_ok=True)


def _is_full(error: Exception, folder: Path) -> bool:
    """Return whether a file could not be written because its disk is full."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return shutil.disk_usage(folder).free < _LEAST_FREE


IN_MEMORY = Scratch()
"""No files."""
