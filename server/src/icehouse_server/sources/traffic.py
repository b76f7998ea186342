"""Counts of what was asked of each host, for the metrics."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTraffic:
    """What one host was asked and what it sent."""

    requests: int
    bytes: int
    errors: Mapping[str, int]
    """Stable kind of the error to how often it came."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counters by host. Safe to use from any thread: metadata is read in the pool, bytes on the loop."""

    _requests: Counter[str] = field(default_factory=Counter)
    _bytes: Counter[str] = field(default_factory=Counter)
    _errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, host: str) -> None:
        """Count a request."""
        with self._lock:
            self._requests[host] += 1

    def received(self, host: str, size: int) -> None:
        """Count bytes of bodies."""
        with self._lock:
            self._bytes[host] += size

    def error(self, host: str, kind: str) -> None:
        """Count an error by its stable kind."""
        with self._lock:
            self._errors[host, kind] += 1

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
