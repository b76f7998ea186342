"""The streams of the process: what can't be written to stdout is an error, to stderr it is lost.

stdout holds what was asked for: a command that could write only a part of it has failed. stderr holds what is
said about it: a full disk under a log must not fail what the log tells of.
"""

import errno
import io
import os
import sys
from collections.abc import Buffer
from typing import TextIO

from icehouse_server.core.errors import IcehouseError

_STDIN, _STDOUT, _STDERR = range(3)


class OutputError(IcehouseError):
    """stdout does not take what a command answers."""

    kind = "output"


class _Output(io.FileIO):
    """stdout: its first failure is raised as an error of ours, and from then on it takes everything.

    So Python's own flush at the end of the process does not fail again, with a traceback.
    """

    _failed = False

    def write(self, data: Buffer) -> int | None:  # type: ignore[override]  # typeshed: never None
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._failed = True
            raise OutputError(f"stdout can't be written: {_reason(error)}") from None


class _Lossy(io.FileIO):
    """stderr: what it can't take is lost."""

    def write(self, data: Buffer) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_streams() -> None:
    """Make the three streams usable, whatever the process was started with. Must be called first.

    A stream that is closed gets a file in its place: otherwise the next file or socket that is opened gets
    its number, and what a library writes to stderr lands in that. Streams that were replaced already, by a
    test for example, stay.
    """
    _fill_gaps()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(_STDOUT, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Lossy(_STDERR, "w", closefd=False), sys.stderr)


def _fill_gaps() -> None:
    # Closed to be read or to be written, as it was: to write to a closed stdout stays an error.
    for number, way in ((_STDIN, os.O_WRONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, way)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _text(raw: io.FileIO, like: TextIO | None) -> TextIO:
    """Return a text stream over a file, encoded as another one; a sign that the encoding lacks is escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=None if like is None else like.encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty() or raw.fileno() == _STDERR,
        write_through=getattr(like, "write_through", False),
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.EPIPE:
        return "its reader has gone"
    if error.errno == errno.EBADF:
        return "it is closed"
    return error.strerror or type(error).__name__
