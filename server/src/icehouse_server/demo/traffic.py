"""What a stand-in server counts, and how it slows itself down."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

SLICE: Final = 16 * 1024
"""Bytes sent at a time when the bandwidth is limited: small enough that connections share it fairly."""


@dataclass(slots=True)
class Traffic:
    """Counters, latency and the shared line of one server. Used in the event loop only."""

    latency: float = 0.0
    """Seconds before each answer."""
    bandwidth: float | None = None
    """Bytes a second over all connections; None for as fast as it goes."""
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method and path."""
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Bytes of bodies sent, by method and path."""
    ranges: dict[str, list[str]] = field(default_factory=dict)
    """The Range headers asked for, by path, in the order they came."""
    active: int = 0
    """Requests under way."""
    most_active: int = 0
    """The most that were under way at once."""
    _free_at: float = 0.0

    def reset(self) -> None:
        """Forget all counts."""
        self.requests.clear()
        self.sent.clear()
        self.ranges.clear()
        self.most_active = self.active

    def begin(self, method: str, path: str, range_header: str | None) -> None:
        """Count a request that has come in; `end` must follow."""
        self.requests[method, path] += 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        if range_header is not None:
            self.ranges.setdefault(path, []).append(range_header)

    def end(self) -> None:
        """Count a request as answered."""
        self.active -= 1

    async def take_turn(self, size: int) -> None:
        """Wait until the shared line has carried `size` bytes more."""
        if self.bandwidth is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + size / self.bandwidth
        await asyncio.sleep(self._free_at - now)

    def report(self) -> dict[str, Any]:
        """The counters as JSON."""
        rows = [
            {"method": method, "path": path, "requests": number, "bytes": self.sent[method, path]}
            for (method, path), number in sorted(self.requests.items())
        ]
        return {
            "requests": self.requests.total(),
            "bytes": self.sent.total(),
            "most_active": self.most_active,
            "by_path": rows,
            "ranges": self.ranges,
        }
