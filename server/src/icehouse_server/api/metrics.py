"""Prometheus metrics: requests as they end, and the state of the parts when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from icehouse_server.service import CoverageService

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class HostTraffic(Protocol):
    """What one host of a source was asked and what it sent."""

    @property
    def requests(self) -> int:
        """Requests sent."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes received."""
        ...

    @property
    def errors(self) -> Mapping[str, int]:
        """Kind of error to how often it came."""
        ...


type TrafficSnapshot = Callable[[], Mapping[str, HostTraffic]]
"""Returns the counters of every host asked so far."""


class _Parts(Collector):
    """Reads the parts when Prometheus asks."""

    def __init__(self, service: CoverageService, traffic: TrafficSnapshot) -> None:
        self._service = service
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        """Yield the state of store and downloads."""
        yield from self._downloads()
        yield from self._store()
        yield from self._hosts()
        yield _gauge("icehouse_answer_bytes", "Memory that answers hold.", self._service.budget.held)

    def _downloads(self) -> Iterator[Metric]:
        downloads = self._service.downloads
        counters = downloads.counters
        yield _gauge("icehouse_blocks_queued", "Blocks that wait to be fetched.", downloads.queued)
        yield _gauge("icehouse_blocks_running", "Blocks under way.", downloads.running)
        yield _counter("icehouse_blocks_fetched", "Blocks fetched.", counters.blocks_fetched)
        yield _counter("icehouse_chunks_fetched", "Chunks fetched and committed.", counters.chunks_fetched)
        yield _counter(
            "icehouse_chunks_joined", "Chunks that were under way for somebody else.", counters.chunks_joined
        )
        yield _counter("icehouse_chunks_failed", "Chunks that could not be filled.", counters.chunks_failed)
        yield _counter(
            "icehouse_chunks_left_alone",
            "Chunks not asked for because they failed a moment before.",
            counters.chunks_left_alone,
        )

    def _hosts(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "icehouse_source_requests", "Requests sent to sources.", labels=["host"]
        )
        received = CounterMetricFamily(
            "icehouse_source_bytes", "Bytes received from sources.", labels=["host"]
        )
        errors = CounterMetricFamily(
            "icehouse_source_errors", "Errors of sources, by kind.", labels=["host", "kind"]
        )
        for host, traffic in self._traffic().items():
            requests.add_metric([host], traffic.requests)
            received.add_metric([host], traffic.bytes)
            for kind, count in traffic.errors.items():
                errors.add_metric([host, kind], count)
        yield from (requests, received, errors)

    def _store(self) -> Iterator[Metric]:
        store = self._service.store
        cached = GaugeMetricFamily(
            "icehouse_chunks_cached", "Chunks in the repository.", labels=["collection"]
        )
        leases = GaugeMetricFamily("icehouse_leases", "Snapshots pinned by readers.", labels=["collection"])
        commits = CounterMetricFamily("icehouse_commits", "Commits.", labels=["collection"])
        seconds = CounterMetricFamily(
            "icehouse_commit_seconds", "Time spent in commits.", labels=["collection"]
        )
        for name, collection in store.collections.items():
            cached.add_metric([name], len(collection.index))
            leases.add_metric([name], collection.leases)
            commits.add_metric([name], collection.writer.commits)
            seconds.add_metric([name], collection.writer.commit_seconds)
        yield from (cached, leases, commits, seconds)
        yield _gauge("icehouse_decoded_bytes", "Memory of the decoded-chunk cache.", store.decoded.bytes)
        yield _counter("icehouse_decoded_hits", "Chunks found decoded in memory.", store.decoded.hits)
        yield _counter("icehouse_decoded_misses", "Chunks not found decoded.", store.decoded.misses)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


class Metrics:
    """The registry of one daemon."""

    def __init__(self, service: CoverageService, traffic: TrafficSnapshot) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Parts(service, traffic))
        self._requests = Counter(
            "icehouse_requests", "Requests answered.", ["route", "method", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "icehouse_request_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            ["route"],
            registry=self._registry,
            buckets=_BUCKETS,
        )

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Return the text exposition format."""
        return generate_latest(self._registry)
