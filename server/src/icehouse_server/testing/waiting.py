"""Waiting for what gives no sign of its own: a program in another process, a file that it writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 0.02
"""Seconds between two looks."""


def until[T](look: Callable[[], T], seconds: float = 60.0) -> T:
    """Look again and again until something true is found, and return it. Blocking.

    Args:
        look: Tells what is waited for.
        seconds: How long at most.

    Raises:
        TimeoutError: Nothing true was found by then.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"nothing but {found!r} within {seconds:g} s")
        time.sleep(_PAUSE)
    return found
