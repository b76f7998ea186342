"""Counts of what was asked of each host, for the metrics."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from icehouse_server.aio.fetch_context import FETCH

MAX_HOSTS = 64
"""Hosts that are counted by name; those beyond share one, so that the metrics stay bounded."""

OTHER = "other"
"""The name that hosts share beyond ``MAX_HOSTS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTraffic:
    """What one host was asked and what it sent."""

    requests: int
    bytes: int
    errors: Mapping[str, int]
    """Stable kind of the error to how often it came."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counters by host, and for the fetch that asks.

    Safe from any thread: metadata is read in a pool, bytes on the loop.
    """

    _requests: Counter[str] = field(default_factory=Counter)
    _bytes: Counter[str] = field(default_factory=Counter)
    _errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, host: str) -> None:
        """Count a request."""
        fetch = FETCH.get()
        with self._lock:
            self._requests[self._named(host)] += 1
            if fetch is not None:
                fetch.requests += 1

    def received(self, host: str, size: int) -> None:
        """Count bytes of bodies."""
        fetch = FETCH.get()
        with self._lock:
            self._bytes[self._named(host)] += size
            if fetch is not None:
                fetch.bytes += size

    def error(self, host: str, kind: str) -> None:
        """Count an error by its stable kind."""
        with self._lock:
            self._errors[self._named(host), kind] += 1

    def _named(self, host: str) -> str:
        """Return the name to count a host by. Must be called while holding the lock."""
        return host if host in self._requests or len(self._requests) < MAX_HOSTS else OTHER

    def snapshot(self) -> dict[str, HostTraffic]:
        """Return the counters of every host asked so far."""
        with self._lock:
            return {
                host: HostTraffic(
                    requests=self._requests[host],
                    bytes=self._bytes[host],
                    errors={kind: count for (where, kind), count in self._errors.items() if where == host},
                )
                for host in self._requests
            }
