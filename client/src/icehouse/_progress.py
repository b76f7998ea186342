"""Progress of one load, as values for a callable or as one line on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from icehouse._plan import Plan

    type ProgressCallback = Callable[["Progress"], object]

_MEGA = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one load is. `phase` is `plan` once, then `receive` many times, then `done` once."""

    phase: Literal["plan", "receive", "done"]
    plan: Plan | None
    """What the daemon has to fetch; None where it could not say."""
    received: int = 0
    """Bytes of the answer that arrived."""
    total: int | None = None
    """Bytes of the whole answer; None while unknown."""


def progress_callback(progress: bool | ProgressCallback | None) -> ProgressCallback | None:  # noqa: FBT001 - as in the API
    """The callable behind the `progress=` argument: None, the caller's own, or a line on stderr."""
    if progress is None or progress is False:
        return None
    return _draw if progress is True else progress


def _draw(progress: Progress) -> None:
    plan = progress.plan
    fetch = f"{plan.chunks.absent} of {plan.chunks.needed} chunks to fetch" if plan else "planning"
    total = f" of {progress.total / _MEGA:.1f}" if progress.total else ""
    line = f"icehouse: {fetch}, {progress.received / _MEGA:.1f}{total} MB received"
    draw_line(line, last=progress.phase == "done")


def draw_line(line: str, *, last: bool) -> None:
    """Write a line over the one before on stderr; where stderr is closed or full, it is lost."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"\r{line}" + ("\n" if last else ""))
            sys.stderr.flush()
