"""The conversation of a measuring process with the program that runs it: JSON, one line each way.

A worker is started with its set-up as JSON in its first argument, imports what it measures, says `ready`, and
answers commands until its standard input ends. Needs the standard library alone: it runs in any environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def setup() -> dict[str, Any]:
    return json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


def say(document: dict[str, Any]) -> None:
    os.write(_out, json.dumps(document).encode() + b"\n")


def memory() -> dict[str, float]:
    """Resident memory of this process in MB: now, and at its highest."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "rss": int(fields["VmRSS"].split()[0]) / 1024,
        "peak": int(fields["VmHWM"].split()[0]) / 1024,
    }


def serve(load: Any) -> None:
    """Answer commands; `load(place)` loads one place wholly into memory and returns its float32 pixels.

    - {"do": "load", "places": [...]}: loads each once -> seconds of each, a mean and some pixels, memory
    - {"do": "rate", "places": [...], "at": time, "seconds": s}: loads in turn from a moment on -> number
    - {"do": "at", "place": ..., "at": time}: one load at a moment -> its begin and end on the common clock
    """
    say({"ready": True, "time": time.time(), **memory()})
    for line in sys.stdin:
        command = json.loads(line)
        try:
            say(_COMMANDS[command.pop("do")](load, **command))
        except Exception as error:  # noqa: BLE001 - the program that asked must hear of it
            say({"error": f"{type(error).__name__}: {error}"[:2000]})


def _load(load: Any, places: list[Any]) -> dict[str, Any]:
    seconds, ends = [], []
    for place in places:
        begun = time.perf_counter()
        pixels = load(place)
        seconds.append(time.perf_counter() - begun)
        ends.append(time.time())
    values = pixels.reshape(-1)[:: max(1, pixels.size // 1000)]
    return {
        "seconds": seconds,
        "ends": ends,
        "shape": list(pixels.shape),
        "mean": float(values[values > -9000].mean()) if (values > -9000).any() else None,
        "sample": [float(value) for value in values[::5]],
        **memory(),
    }


def _rate(load: Any, places: list[Any], at: float, seconds: float) -> dict[str, Any]:
    time.sleep(max(0.0, at - time.time()))
    end, number = at + seconds, 0
    while time.time() < end:
        load(places[number % len(places)])
        number += 1
    return {"number": number, "end": time.time(), **memory()}


def _at(load: Any, place: Any, at: float) -> dict[str, Any]:
    time.sleep(max(0.0, at - time.time()))
    begun = time.time()
    load(place)
    return {"begun": begun, "end": time.time(), **memory()}


_COMMANDS = {"load": _load, "rate": _rate, "at": _at}

# Libraries print; only `say` may write where the answers are read.
_out = os.dup(1)
os.dup2(2, 1)
