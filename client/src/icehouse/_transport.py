"""The interface between the client and HTTP: one request, one whole response.

It has two implementations: `_native` for http:// (the way to a daemon on the same machine, without a
copy and without importing httpx), and `_httpx` for https:// and for an application in the same process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from icehouse._errors import ClientTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    type OnBytes = Callable[[int, int | None], object]
    """Called with bytes received so far and bytes in all (None: unknown)."""

_SMALL = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: memoryview
    """Writable, contiguous bytes that nothing else refers to: arrays may be views into them."""

    def header(self, name: str) -> str:
        """The value of one header, empty where it is absent. `name` in lower case."""
        return self.headers.get(name, "")


class Deadline:
    """The moment at which a call has to end. It spans retries, so no step gets a fresh timeout."""

    __slots__ = ("_end", "seconds", "url")

    def __init__(self, seconds: float, url: str) -> None:
        self.seconds = seconds
        self.url = url
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left, zero or less when it is over."""
        return self._end - time.monotonic()

    def remaining(self) -> float:
        """Seconds that are left, always positive.

        Raises:
            ClientTimeout: none are left.
        """
        left = self.left()
        if left <= 0:
            raise self.error()
        return left

    def error(self) -> ClientTimeout:
        """The error for a call that did not end in time."""
        return ClientTimeout(
            f"{self.url} did not answer completely within {self.seconds:g} s; "
            "what it fetched meanwhile is cached, so asking again goes on from there"
        )


class Transport(Protocol):
    """Sends one request and reads the whole answer. Safe to call from many threads."""

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
        on_bytes: OnBytes | None = None,
    ) -> Response:
        """Send and receive.

        Args:
            method: such as `GET`. Every request of Icehouse's client may be sent twice without harm.
            path: starts with a slash, quoted, with its query.
            headers: all but Host and Content-Length.
            body: the request's body, or None.
            deadline: when to give up.
            on_bytes: called as bytes of the response's body arrive.

        Raises:
            ConnectionFailed: nothing answers there.
            ClientTimeout: the deadline passed.
            ProtocolError: what came is not HTTP, or was cut short.
        """

    def close(self) -> None:
        """Drop all connections; may be called twice."""


def buffer_of(size: int) -> memoryview:
    """Writable memory for `size` bytes, aligned for any dtype, not cleared where it is large."""
    if size < _SMALL:
        return memoryview(bytearray(size))
    # Imported here: a client that only asks for JSON does not need it. np.empty does not touch the pages, so
    # the kernel writes the socket's bytes straight into fresh memory.
    import numpy as np  # noqa: PLC0415

    return memoryview(np.empty(size, dtype=np.uint8))


class Receiver:
    """Collects a body of known length in one buffer, and reports its progress."""

    __slots__ = ("_on_bytes", "_size", "buffer", "received")

    def __init__(self, size: int, on_bytes: OnBytes | None) -> None:
        self._size = size
        self._on_bytes = on_bytes
        self.buffer = buffer_of(size)
        self.received = 0

    @property
    def missing(self) -> int:
        """Bytes that have not arrived."""
        return self._size - self.received

    def rest(self) -> memoryview:
        """The part of the buffer that has not been written."""
        return self.buffer[self.received :]

    def advance(self, count: int) -> None:
        """Note that `count` bytes were written at the start of `rest()`."""
        self.received += count
        if self._on_bytes is not None:
            self._on_bytes(self.received, self._size)
