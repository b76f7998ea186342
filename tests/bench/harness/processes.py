"""Processes of a benchmark: workers that measure, daemons, and other servers. Each is ended by its own id."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icehouse_server.testing.daemon import DaemonProcess, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WORKERS = Path(__file__).resolve().parent.parent / "workers"
_END_SECONDS = 30
_BYTE_CODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Without byte code each process compiles all that it imports, on every side of a comparison."""


class WorkerError(RuntimeError):
    """A worker failed, ended or took too long."""


def end(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, then SIGKILL."""
    process.terminate()
    try:
        process.wait(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def outer_environment() -> dict[str, str]:
    """Our environment without what would change the figures: settings, and the ban on byte code."""
    return {**environment(), **_BYTE_CODE}


@dataclass(kw_only=True)
class Worker:
    """A process of `workers/`, see `workers/protocol.py`."""

    name: str
    process: subprocess.Popen[bytes]
    spawned: float
    ready: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def spawn(cls, script: str, config: Mapping[str, Any], *, python: str = sys.executable) -> Worker:
        """Start it; it becomes ready on its own, `wait` for that."""
        environment = outer_environment()
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)  # our packages have no place in another environment
        spawned = time.time()
        process = subprocess.Popen(
            [python, str(WORKERS / f"{script}.py"), json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        return cls(name=script, process=process, spawned=spawned)

    @classmethod
    @contextlib.contextmanager
    def start(
        cls, script: str, config: Mapping[str, Any], *, python: str = sys.executable, timeout: float = 180
    ) -> Iterator[Worker]:
        worker = cls.spawn(script, config, python=python)
        try:
            worker.wait(timeout)
            yield worker
        finally:
            worker.close()

    @classmethod
    @contextlib.contextmanager
    def start_many(
        cls, number: int, script: str, config: Mapping[str, Any], *, python: str = sys.executable
    ) -> Iterator[list[Worker]]:
        workers = [cls.spawn(script, config, python=python) for _ in range(number)]
        try:
            for worker in workers:
                worker.wait(300)
            yield workers
        finally:
            for worker in workers:
                worker.close()

    def wait(self, timeout: float = 180) -> None:
        self.ready = self.receive(timeout)

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self, timeout: float = 180) -> dict[str, Any]:
        """The next answer. A worker that gives none in time is killed.

        Raises:
            WorkerError: it failed.
        """
        assert self.process.stdout is not None
        watchdog = threading.Timer(timeout, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise WorkerError(f"{self.name} ended with code {self.process.wait()} (or took over {timeout} s)")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, timeout: float = 180, **command: Any) -> dict[str, Any]:
        self.send(**command)
        return self.receive(timeout)

    def loads(self, places: Sequence[Any], timeout: float = 300) -> list[float]:
        """Seconds that it took to load each place."""
        return list(self.ask(timeout, do="load", places=list(places))["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            end(self.process)
        self.process.stdout.close()


def daemon(cache: Path, mirrors: Mapping[str, str], variables: Mapping[str, str]) -> DaemonProcess:
    """`icehouse serve` on a free port, started and ended by a `with` block."""
    return DaemonProcess(
        cache=cache,
        settings={"mirrors": mirrors, "log_level": "warning"},
        variables={**_BYTE_CODE, **variables},
        tied=False,  # its start is measured
        deadline=300,
    )


@contextlib.contextmanager
def server(script: str, *, python: str = sys.executable) -> Iterator[int]:
    """Run a server of `workers/`; yields its port."""
    words = [python, str(WORKERS / f"{script}.py")]
    process = subprocess.Popen(words, env=outer_environment(), stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline().strip() if process.stdout else ""
        if not line:
            raise WorkerError(f"{script} did not start")
        yield int(line)
    finally:
        end(process)
        if process.stdout:
            process.stdout.close()
