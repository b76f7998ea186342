"""What Icechunk and the disk raise, as errors of ours."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from icehouse_server.core.errors import DiskFullError, IcehouseError, StoreError

log = structlog.get_logger(__name__)

UNREADABLE = "the repository can't be read"

_ENDINGS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)

_NO_ROOM = ("os error 28", "os error 27", "os error 122", "No space left", "File too large", "quota exceeded")
"""How ENOSPC, EFBIG and EDQUOT read in Icechunk's messages (it gives no code)."""


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turn whatever Icechunk or the disk raises into an error of ours.

    Args:
        what: for people: what did not happen, such as "the repository did not take a commit".

    Raises:
        DiskFullError: there was no room.
        StoreError: anything else.
    """
    try:
        yield
    except IcehouseError:
        raise
    except BaseException as error:
        if is_cancellation(error):
            raise
        raise translated_error(error, what) from error


def is_cancellation(error: BaseException) -> bool:
    """Return whether an error ends the current task.

    All else is a refusal: also a Rust panic, which is not an ``Exception``, and a ``CancelledError`` that a
    call ends in although the task was not cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, _ENDINGS)


def translated_error(error: BaseException, what: str) -> IcehouseError:
    """Return the error of ours that stands for one of Icechunk or of the disk."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, IcehouseError):
        return error
    if any(sign in str(error) for sign in _NO_ROOM):
        return DiskFullError(
            "the disk of the cache folder is full", hint="make room, or point cache_dir at a larger disk"
        )
    log.error(what, error=first_line(error))
    return StoreError(what, hint="the daemon's log says why")


def first_line(error: BaseException) -> str:
    """Return what an error says, without Icechunk's report of several lines."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
