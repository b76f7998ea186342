"""How commands end: what an error looks like, and how a process leaves that has opened repositories."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from icehouse_server.core.errors import IcehouseError


def say_error(error: IcehouseError | OSError) -> None:
    """Write an error as one sentence and a hint on stderr."""
    if isinstance(error, OSError):  # of a file of the user's: one that a command writes, for example
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"icehouse: {where}{error.strerror or error}", file=sys.stderr)
        return
    print(f"icehouse: {error.detail}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)


@contextmanager
def refusals_are_sentences() -> Iterator[None]:
    """Run a command; what it is refused, or what stdout does not take, is a sentence and exit status 1."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, not by Python itself at the end: it would show a traceback
    except (IcehouseError, OSError) as error:
        say_error(error)
        sys.exit(1)


def leave(status: int) -> NoReturn:
    """End the process at once. Everything must be closed.

    Native threads of the storage libraries may still end; an interpreter that ends meanwhile can crash
    (measured: 12 of 40 short processes).
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, IcehouseError):  # a log on a full disk, a reader that has gone
            stream.flush()
    os._exit(status)


@contextmanager
def refusals_end_the_process() -> Iterator[None]:
    """Run what opens repositories; where it is refused, say why and leave with status 1."""
    try:
        yield
    except IcehouseError as error:
        say_error(error)
        leave(1)
