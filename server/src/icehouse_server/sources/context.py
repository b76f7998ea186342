"""What every source gets from the composition root: mirrors, time limits, the pool, the shared way out."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import cast

from icehouse_server.core.limits import SourceSettings
from icehouse_server.core.ports import Documents
from icehouse_server.sources.http.hosts import Hosts
from icehouse_server.sources.http.urls import mirrored


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContext(SourceSettings):
    """Settings and shared means of all sources of one daemon.

    One context serves all collections: collections often share a host, and the bound on requests is one per
    host, not one per collection.
    """

    documents: Documents
    """Where item documents are remembered, next to the repositories."""
    pool: Executor
    """Runs what takes the processor: merging and masking large windows, GDAL."""
    user_agent: str = "icehouse"
    hosts: Hosts = field(init=False)
    """The shared way to bytes: connections, bounds and counters by host."""
    _shared: dict[str, object] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        hosts = Hosts(
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            max_requests_per_host=self.max_requests_per_host,
            user_agent=self.user_agent,
        )
        object.__setattr__(self, "hosts", hosts)

    def mirrored(self, url: str) -> str:
        """Return the URL to ask for: the same, or its counterpart under the longest prefix that fits."""
        return mirrored(url, self.mirrors) or url

    def shared[T](self, kind: str, make: Callable[[], T]) -> T:
        """Return what all sources of one kind share; the first to ask makes it."""
        if kind not in self._shared:
            self._shared[kind] = make()
        return cast("T", self._shared[kind])
