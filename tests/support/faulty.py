"""Faults in the store's calls that leave the process: the n-th of a kind fails, or all from the n-th on.

The calls are wrapped where they leave Python: the methods of Icechunk's repository, session and store, those
of the SQLite connection, the file operations of the store's own code, flock, and the start of a thread.

with Calls(folder) as calls:
    calls.fault = Failing(kind="commit", first=2, error=lambda: icechunk.StorageError("it broke"))
"""

import asyncio
import fcntl
import functools
import os
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import icechunk
from zarr.core.buffer import Buffer, cpu

_REPOSITORY: Mapping[str, tuple[str, ...]] = {
    "open": ("open", "create", "exists"),
    "session": (
        "readonly_session",
        "writable_session",
        "readonly_session_async",
        "writable_session_async",
    ),
    "lookup": ("lookup_branch_async", "lookup_snapshot_async", "list_tags_async"),
    "expire": ("expire_snapshots_async",),
    "collect": ("garbage_collect_async",),
}
_SESSION: Mapping[str, tuple[str, ...]] = {
    "commit": ("commit", "commit_async"),
    "list": ("chunk_coordinates",),
    "lookup": ("chunk_type", "chunk_type_async"),
}
_STORE: Mapping[str, tuple[str, ...]] = {"get": ("get",), "set": ("set",), "delete": ("delete",)}
_FILES: Mapping[str, tuple[str, ...]] = {
    "mkdir": ("mkdir",),
    "rename": ("replace", "rename"),
    "scandir": ("scandir",),
    "unlink": ("unlink",),
}
KINDS = (*_REPOSITORY, "commit", "list", *_STORE, *_FILES, "disk-usage", "sqlite", "flock", "thread")
"""What can fail."""


class Panic(BaseException):
    """Stands for ``pyo3_runtime.PanicException``, which is not an ``Exception`` either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """Which calls fail, and how."""

    kind: str
    """One of ``KINDS``."""
    first: int
    """The first call that fails, from 1."""
    forever: bool = False
    """All from the first on fail; otherwise that one alone."""
    error: Callable[[], BaseException | None] = lambda: None
    """Makes the error to raise; where it makes None the call goes on, so it may do something else as well."""
    late: bool = False
    """The error comes after the call took effect: its answer was lost."""
    delay: float = 0.0
    """Seconds that the call takes longer."""
    spoil: Callable[[bytes], bytes] | None = None
    """For "get": what the bytes of a chunk become."""

    def strikes(self, kind: str, number: int) -> bool:
        """Return whether it is about the call of this number."""
        return kind == self.kind and (number == self.first or (self.forever and number > self.first))


class Calls:
    """Counts calls by kind, and makes those fail that ``fault`` says. Safe from many threads.

    Args:
        folder: only file operations below it count.

    Attributes:
        counts: calls since the last ``reset``, by kind.
        struck: calls that a fault struck.
        fault: the fault in force.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self.counts: Counter[str] = Counter()
        self.struck = 0
        self.fault: Failing | None = None

    def reset(self, fault: Failing | None = None) -> None:
        """Count from nothing, with another fault, or none."""
        with self._lock:
            self.counts.clear()
            self.struck = 0
            self.fault = fault

    def __enter__(self) -> Self:
        for owner, kinds, wrap in (
            (icechunk.Repository, _REPOSITORY, self._either),
            (icechunk.Session, _SESSION, self._either),
            (icechunk.IcechunkStore, _STORE, self._either),
            (os, _FILES, self._on_path),
        ):
            for kind, names in kinds.items():
                for name in names:
                    self._replace(owner, name, kind, wrap)
        self._replace(shutil, "disk_usage", "disk-usage", self._on_path)
        self._replace(fcntl, "flock", "flock", self._blocking)
        self._replace(threading.Thread, "start", "thread", self._blocking)
        self._replace(sqlite3, "connect", "sqlite", self._connecting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _replace(
        self,
        owner: object,
        name: str,
        kind: str,
        wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]],
    ) -> None:
        found = vars(owner)[name]
        real = getattr(found, "__func__", found)
        wrapped: object = wrap(kind, real)
        if isinstance(found, classmethod | staticmethod):
            wrapped = type(found)(wrapped)  # type: ignore[arg-type]
        setattr(owner, name, wrapped)
        self._stack.callback(setattr, owner, name, found)

    def strike(self, kind: str) -> Failing | None:
        """Count a call, and return the fault where it strikes this one."""
        with self._lock:
            self.counts[kind] += 1
            fault = self.fault
            if fault is None or not fault.strikes(kind, self.counts[kind]):
                return None
            self.struck += 1
            return fault

    def _either(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        if asyncio.iscoroutinefunction(real):
            return self._awaited(kind, real)
        return (
            self._iterated(kind, real) if real.__name__ == "chunk_coordinates" else self._blocking(kind, real)
        )

    def _awaited(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        async def call(*args: Any, **options: Any) -> object:
            fault = self.strike(kind)
            if fault is not None:
                await asyncio.sleep(fault.delay)
                if not fault.late:
                    _fail(fault)
            found = await real(*args, **options)
            if fault is not None:
                if fault.late:
                    _fail(fault)
                found = _spoiled(fault, str(args[1]) if len(args) > 1 else "", found)
            return found

        return call

    def _iterated(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        async def call(*args: Any, **options: Any) -> AsyncIterator[object]:
            fault = self.strike(kind)
            if fault is not None and not fault.late:
                _fail(fault)
            async for found in real(*args, **options):
                yield found
            if fault is not None and fault.late:
                _fail(fault)

        return call

    def _blocking(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **options: Any) -> object:
            return self.around(kind, functools.partial(real, *args, **options))

        return call

    def _on_path(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(path: Any = ".", *args: Any, **options: Any) -> object:
            work = functools.partial(real, path, *args, **options)
            named = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._folder)
            return self.around(kind, work) if named else work()

        return call

    def _connecting(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **options: Any) -> object:
            if args[0] == ":memory:":
                return real(*args, **options)
            made = functools.partial(real, *args, factory=_connection_type(self), **options)
            return self.around(kind, made)

        return call

    def around(self, kind: str, work: Callable[[], object]) -> object:
        """Do something that counts as a call."""
        fault = self.strike(kind)
        if fault is not None:
            time.sleep(fault.delay)
            if not fault.late:
                _fail(fault)
        found = work()
        if fault is not None and fault.late:
            try:
                _fail(fault)
            except BaseException:
                getattr(found, "close", lambda: None)()
                raise
        return found


def _fail(fault: Failing) -> None:
    error = fault.error()
    if error is not None:
        raise error


def _spoiled(fault: Failing, path: str, found: object) -> object:
    if fault.spoil is None or not isinstance(found, Buffer) or "/c/" not in path:
        return found
    return cpu.Buffer.from_bytes(fault.spoil(found.to_bytes()))


def _connection_type(calls: Calls) -> type[sqlite3.Connection]:
    """Return a connection whose every statement and commit counts."""

    class Connection(sqlite3.Connection):
        def execute(self, *args: Any) -> sqlite3.Cursor:
            return calls.around("sqlite", functools.partial(super().execute, *args))  # type: ignore[return-value]

        def executemany(self, *args: Any) -> sqlite3.Cursor:
            return calls.around("sqlite", functools.partial(super().executemany, *args))  # type: ignore[return-value]

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
            /,
        ) -> Literal[False]:
            try:
                calls.around("sqlite", functools.partial(super().__exit__, kind, error, trace))
            except BaseException:
                self.rollback()  # as sqlite3 does when its commit fails
                raise
            return False

    return Connection


def disk_error(number: int) -> OSError:
    """Return the operating system's error of a number."""
    return OSError(number, os.strerror(number))


def storage_error(number: int) -> icechunk.StorageError:
    """Return an error of the operating system as Icechunk words it."""
    text = f"{os.strerror(number)} (os error {number})"
    return icechunk.StorageError(f"object store error Generic LocalFileSystem error: {text}")
