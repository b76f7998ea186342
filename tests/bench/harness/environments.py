"""Environments of the other tools: each is made once, from pinned versions, in `.tools`."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_BENCH = Path(__file__).resolve().parent.parent


class EnvironmentMissingError(RuntimeError):
    """The environment of another tool can't be made."""


@functools.cache
def python_of(name: str) -> str:
    """The interpreter of `.tools/bench-<name>`, made from `requirements-<name>.txt` if need be.

    Raises:
        EnvironmentMissingError: uv is missing or can't install.
    """
    folder, pins = ROOT / ".tools" / f"bench-{name}", _BENCH / f"requirements-{name}.txt"
    python, stamp = folder / "bin" / "python", folder / ".pins"
    if not (stamp.exists() and stamp.read_text() == pins.read_text()):
        uv = _find_uv()
        folder.parent.mkdir(exist_ok=True)
        _run(uv, "venv", "-q", "--no-project", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python), "-r", str(pins))
        stamp.write_text(pins.read_text())
    return str(python)


def _find_uv() -> str:
    """Where the Makefile finds it: on PATH, else the one that it brought."""
    for candidate in (shutil.which("uv"), str(ROOT / ".tools" / "uv" / "bin" / "uv")):
        if candidate and Path(candidate).exists():
            return candidate
    raise EnvironmentMissingError(
        "uv is neither on PATH nor in .tools/uv: run `make bench`, or put it on PATH"
    )


def _run(*words: str) -> None:
    try:
        subprocess.run(words, check=True, timeout=900)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise EnvironmentMissingError(f"{words[1]} failed: {error}") from error
