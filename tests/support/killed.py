"""A daemon that kills itself at a chosen moment of its work, as the kernel would.

``python -m support.killed commit:2:in serve --cache-dir …`` is ``icehouse serve …``, killed
while its second commit is under way.
"""

import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.faulty import KINDS, Calls, Failing

_LONGEST = 0.004
"""Seconds after the beginning of a call in which the process is killed "in" it: most take no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a process kills itself."""

    kind: str
    """The kind of call: one of ``faulty.KINDS``."""
    number: int
    """Which call of this kind, from 1."""
    when: str
    """"before" it, "in" it (any time after it has begun), or "after" it."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``KIND:NUMBER:WHEN``."""
        kind, number, when = text.split(":")
        if kind not in KINDS or when not in {"before", "in", "after"}:
            raise ValueError(f"{text!r} is not a moment")
        return cls(kind=kind, number=int(number), when=when)

    def fault(self) -> Failing:
        """Return the fault that ends the process then."""
        ends = _end_soon if self.when == "in" else _end
        return Failing(kind=self.kind, first=self.number, error=ends, late=self.when == "after")


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _end_soon() -> None:
    def end() -> None:
        time.sleep(random.uniform(0, _LONGEST))
        _end()

    threading.Thread(target=end, daemon=True).start()


def main() -> None:
    """Run the command line with the first argument as the moment."""
    from icehouse_server.cli import main as command

    _, moment, *words = sys.argv
    sys.argv[1:] = words
    with Calls(Path(words[words.index("--cache-dir") + 1])) as calls:
        calls.reset(Moment.read(moment).fault())
        command()


if __name__ == "__main__":
    main()
