"""A daemon in a process of its own: what tests, benchmarks and the demo use.

with DaemonProcess(cache=folder / "cache", settings={"mirrors": standins.mirrors}) as daemon:
    client = icehouse.Client(daemon.url, "arcticdem-32m")
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from icehouse_server.testing.waiting import until

_SECONDS = 120.0
"""Far more than a start or an end takes on a busy machine: what is slower is a hang."""
# Whoever is killed takes its daemons along: SIGKILL when the parent ends (prctl 1), then the program.
_TIED = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"""
_LOG_CHARACTERS = 4000


class DaemonStartError(RuntimeError):
    """A daemon ended, or took too long, instead of getting ready. The message carries its log."""


def environment(settings: Mapping[str, object] | None = None, *, home: Path | None = None) -> dict[str, str]:
    """Our environment with these settings of Icehouse and no others.

    Args:
        settings: Name as in a settings file -> value; a mapping becomes JSON.
        home: Home folder in place of the user's, with all that programs look for there.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ICEHOUSE_")}
    places = {} if home is None else dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(home))
    own = {
        f"ICEHOUSE_{name.upper()}": json.dumps(dict(value)) if isinstance(value, Mapping) else str(value)
        for name, value in (settings or {}).items()
    }
    return {**inherited, **places, **own}


@dataclass(kw_only=True, eq=False)
class DaemonProcess:
    """``icehouse serve`` in a process of its own, started and ended by a ``with`` block.

    On Linux the daemon is killed when the thread that has started it ends, however that happens.
    """

    cache: Path | None = None
    """Its cache folder; None leaves that to settings and command."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """See `environment`. No setting comes from our own environment."""
    port: int = 0
    """0 picks a free one; once the daemon is ready, the one that it listens on."""
    log: Path | None = None
    """File of its log, made anew; None is our own stderr."""
    home: Path | None = None
    """Its home and working folder, in place of ours: no settings file of the user is found."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of its environment, in addition to those of `settings`."""
    command: Sequence[str] = ("icehouse_server", "serve")
    """What `python -m` runs; port and cache folder follow. `support.killed` is another."""
    tied: bool = True
    """Without it the daemon outlives us if we are killed; the tie makes its start a little slower."""
    deadline: float = _SECONDS
    """Seconds in which it must get ready."""
    process: subprocess.Popen[str] = field(init=False)
    line: str = field(init=False, default="")
    """What it printed when it was ready; empty until then, or if it ended instead."""
    start_seconds: float = field(init=False, default=0.0)
    """How long it took to get ready."""

    def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises:
            DaemonStartError: it ended instead, or was not ready by the deadline. Nothing of it is left.
        """
        self.spawn()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            if not self.wait_ready():
                raise DaemonStartError(f"the daemon ended with status {self.wait()}{self._said()}")
            undo.pop_all()
        return self

    def spawn(self) -> None:
        """Start it without waiting; `wait_ready` comes next."""
        tie = ("-I", "-S", "-c", _TIED) if self.tied and sys.platform == "linux" else ()
        place = () if self.cache is None else ("--cache-dir", str(self.cache))
        words = ["-m", *self.command, "--port", str(self.port), *place]
        self._begun = time.perf_counter()
        with contextlib.nullcontext() if self.log is None else self.log.open("w") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 - our own
                [sys.executable, *tie, *words],
                env={**environment(self.settings, home=self.home), **self.variables},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def wait_ready(self) -> bool:
        """Wait until it is ready; False if it ends instead.

        Raises:
            DaemonStartError: neither came by the deadline; it is killed.
        """
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], self.deadline)[0]:
            self.kill()
            raise DaemonStartError(f"the daemon was not ready after {self.deadline:g} s{self._said()}")
        self.line = self.process.stdout.readline().strip()
        self.start_seconds = time.perf_counter() - self._begun
        if self.line:
            self.port = urlsplit(self.url).port or self.port
        return bool(self.line)

    @property
    def url(self) -> str:
        """Where it answers.

        Raises:
            DaemonStartError: it did not get ready.
        """
        if not self.line:
            raise DaemonStartError(f"the daemon is not ready{self._said()}")
        return self.line.rsplit(" ", 1)[1]

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def wait_idle(self, seconds: float = _SECONDS) -> None:
        """Wait until nothing is fetched and no job runs: fetches outlive who asked for them.

        Raises:
            TimeoutError: something still is after the given seconds.
        """
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_SECONDS)

        def idle() -> bool:
            connection.request("GET", "/status")
            now = json.load(connection.getresponse())
            return not now["downloads"]["chunks_in_flight"] and not now["jobs"]

        with contextlib.closing(connection):
            try:
                until(idle, seconds)
            except TimeoutError:
                raise TimeoutError(f"the daemon is not idle after {seconds:g} s") from None

    def memory(self) -> dict[str, float]:
        """Resident memory in MB, on Linux: "rss" now, and its "peak"."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        now, peak = (int(fields[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
        return {"rss": now, "peak": max(now, peak)}  # the kernel brings its peak up to date now and then

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        self.process.send_signal(number)

    def wait(self, seconds: float = _SECONDS) -> int:
        """Wait for its end; returns the exit status, as `subprocess.Popen.wait` does."""
        return self.process.wait(timeout=seconds)

    def stop(self, seconds: float = _SECONDS) -> int:
        """End it by SIGTERM, and kill it if it has not ended after `seconds`. Returns the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it as the kernel does when memory is short. Returns the exit status."""
        self.process.kill()
        return self.wait()

    def close(self) -> None:
        """Stop it if it runs, and let go of what is left."""
        try:
            if self.alive:
                self.stop()
        finally:
            self.process.kill()  # nothing if it has ended; else we were interrupted while it did
            if self.process.stdout is not None:
                self.process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _said(self) -> str:
        if self.log is None:
            return "; its log above says why"
        return f":\n{self.log.read_text(encoding='utf-8', errors='replace')[-_LOG_CHARACTERS:]}"
