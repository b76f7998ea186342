"""Prometheus metrics: requests as they end, and the state of the parts when they are asked for."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from icehouse_server.api.observability.request_context import RequestContext
from icehouse_server.core.histogram import Histogram
from icehouse_server.downloads import Downloads, DownloadsSnapshot, FetchCounts
from icehouse_server.service import CacheFolderProbe, Hits, Jobs, LoopLagMonitor, MemoryBudget
from icehouse_server.store import Store

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The parts whose state the metrics show."""

    store: Store
    downloads: Downloads
    budget: MemoryBudget
    """Memory of answers."""
    disk_floor: int
    """Bytes to be left free on the cache folder's disk."""
    jobs: Jobs
    traffic: TrafficSnapshot
    """Counters of the sources' hosts."""
    loop: LoopLagMonitor
    folder: CacheFolderProbe
    pools: Mapping[str, ThreadPoolExecutor]
    """Pools of threads by name."""


class _Parts(Collector):
    """Reads the parts when Prometheus asks. Runs on the event loop, as they do."""

    def __init__(self, parts: Observed, hits: Hits) -> None:
        self._parts = parts
        self._hits = hits

    def collect(self) -> Iterator[Metric]:
        """Yield the state of all parts."""
        downloads = self._parts.downloads.snapshot()
        yield from _downloads(downloads)
        yield from _fetches(downloads.counts)
        yield from self._repositories()
        yield from self._commits()
        yield from self._maintenance()
        yield from self._memory()
        yield from self._hosts()
        yield _gauges("icehouse_jobs", "Jobs kept, by state.", "state", self._parts.jobs.by_state)
        yield _counter("icehouse_chunks_asked", "Chunks that requests needed.", self._hits.asked)
        yield _counter("icehouse_chunks_found", "Those of them that were cached already.", self._hits.cached)
        yield from self._process()

    def _hosts(self) -> Iterator[Metric]:
        hosts = self._parts.traffic()
        yield _counters(
            "icehouse_source_requests",
            "Requests sent to sources.",
            "host",
            {host: traffic.requests for host, traffic in hosts.items()},
        )
        yield _counters(
            "icehouse_source_bytes",
            "Bytes received from sources.",
            "host",
            {host: traffic.bytes for host, traffic in hosts.items()},
        )
        errors = CounterMetricFamily(
            "icehouse_source_errors", "Errors of sources, by kind.", labels=["host", "kind"]
        )
        for host, traffic in hosts.items():
            for kind, count in traffic.errors.items():
                errors.add_metric([host, kind], count)
        yield errors

    def _repositories(self) -> Iterator[Metric]:
        collections = self._parts.store.collections
        yield _gauges(
            "icehouse_chunks_cached",
            "Chunks in the repository.",
            "collection",
            {name: len(collection.index) for name, collection in collections.items()},
        )
        yield _gauges(
            "icehouse_leases",
            "Snapshots pinned by readers.",
            "collection",
            {name: collection.leases for name, collection in collections.items()},
        )
        yield _counters(
            "icehouse_damaged_chunks",
            "Stored chunks that could not be read back.",
            "collection",
            {name: collection.damaged for name, collection in collections.items()},
        )
        free = self._parts.folder.last.free
        yield _gauge(
            "icehouse_disk_free_bytes",
            "Free on the cache folder's disk.",
            float("nan") if free is None else free,
        )
        yield _gauge("icehouse_disk_floor_bytes", "Below it nothing is fetched.", self._parts.disk_floor)

    def _commits(self) -> Iterator[Metric]:
        writers = {name: collection.writer for name, collection in self._parts.store.collections.items()}
        yield _counters(
            "icehouse_commits",
            "Commits.",
            "collection",
            {name: writer.commits for name, writer in writers.items()},
        )
        yield _histograms(
            "icehouse_commit_seconds",
            "Time of a commit, until its chunks can be read.",
            [({"collection": name}, writer.figures.seconds) for name, writer in writers.items()],
        )
        yield _histograms(
            "icehouse_commit_chunks",
            "Chunks of a commit.",
            [({"collection": name}, writer.figures.chunks) for name, writer in writers.items()],
        )
        failed = CounterMetricFamily(
            "icehouse_commits_failed", "Commits that failed, by kind.", labels=["collection", "kind"]
        )
        for name, writer in writers.items():
            for kind, count in writer.figures.failed.items():
                failed.add_metric([name, kind], count)
        yield failed
        yield _gauges(
            "icehouse_commit_under_way_seconds",
            "Time since the commit under way began.",
            "collection",
            {name: writer.figures.under_way for name, writer in writers.items()},
        )

    def _maintenance(self) -> Iterator[Metric]:
        store = self._parts.store
        counters = store.maintenance.counters
        yield _gauge("icehouse_cache_bytes", "Bytes that the repositories take on disk.", store.room.bytes)
        yield _gauge(
            "icehouse_cache_bytes_limit",
            "Bytes that they may take.",
            float("inf") if store.room.limit is None else store.room.limit,
        )
        yield _counter("icehouse_maintenance_runs", "Runs of maintenance.", counters.runs)
        yield _counter(
            "icehouse_maintenance_failures", "Runs that a repository or the disk refused.", counters.failures
        )
        yield _counter("icehouse_maintenance_seconds", "Time spent in maintenance.", counters.seconds)
        yield _counter("icehouse_evicted_chunks", "Chunks evicted.", counters.evicted)
        yield _counter("icehouse_expired_snapshots", "Snapshots expired.", counters.snapshots_expired)
        yield _counter("icehouse_freed_bytes", "Bytes of garbage deleted.", counters.bytes_freed)

    def _memory(self) -> Iterator[Metric]:
        budget, decoded = self._parts.budget, self._parts.store.decoded
        yield _gauge("icehouse_answer_bytes", "Memory that answers hold.", budget.held)
        yield _gauge("icehouse_answer_bytes_limit", "Memory that answers may hold.", budget.total)
        yield _gauge("icehouse_answers_waiting", "Answers that wait for memory.", budget.waiting)
        yield _gauge("icehouse_decoded_bytes", "Memory of the decoded-chunk cache.", decoded.bytes)
        yield _gauge("icehouse_decoded_chunks", "Chunks in it.", len(decoded))
        yield _counter("icehouse_decoded_evicted", "Chunks that made room in it.", decoded.evicted)
        yield _counter("icehouse_decoded_hits", "Chunks found decoded in memory.", decoded.hits)
        yield _counter("icehouse_decoded_misses", "Chunks not found decoded.", decoded.misses)

    def _process(self) -> Iterator[Metric]:
        yield _histograms(
            "icehouse_loop_delay_seconds",
            "By how much the event loop woke too late, seen four times a second.",
            [({}, self._parts.loop.delays)],
        )
        yield _gauge(
            "icehouse_loop_delay_worst_seconds",
            "The longest such delay of the last minute.",
            self._parts.loop.worst(),
        )
        yield _gauge("icehouse_tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))
        yield _gauge("icehouse_threads", "Threads.", threading.active_count())
        yield _gauges(
            "icehouse_pool_queued",
            "Work that waits for a thread.",
            "pool",
            {name: _waiting(pool) for name, pool in self._parts.pools.items()},
        )


def _waiting(pool: ThreadPoolExecutor) -> int:
    return pool._work_queue.qsize()  # noqa: SLF001 - there is no other way to know, and none that costs nothing


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histograms(name: str, text: str, values: Sequence[tuple[Mapping[str, str], Histogram]]) -> Metric:
    """Make a histogram of distributions, each with its labels; the same names in all of them."""
    family = HistogramMetricFamily(name, text, labels=list(values[0][0]) if values else [])
    for labels, distribution in values:
        family.add_metric(list(labels.values()), list(_cumulative(distribution)), distribution.total)
    return family


def _cumulative(distribution: Histogram) -> Iterable[tuple[str, float]]:
    below = 0
    for bound, count in zip((*distribution.bounds, "+Inf"), distribution.counts, strict=True):
        below += count
        yield str(bound), below


class Metrics:
    """The registry of one daemon.

    Attributes:
        hits: how many of the chunks that requests needed were cached.

    Args:
        parts: what is read when Prometheus asks.
    """

    def __init__(self, parts: Observed) -> None:
        self._registry = CollectorRegistry()
        hits = Hits()
        self._registry.register(_Parts(parts, hits))
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "icehouse_requests", "Requests answered.", ["route", "method", "status"], registry=self._registry
        )
        self._seconds = prometheus_client.Histogram(
            "icehouse_request_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            ["route"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, prometheus_client.Histogram]] = {}
        self._problems = Counter(
            "icehouse_problems", "Problems answered, by kind.", ["kind"], registry=self._registry
        )
        self._answers = Counter(
            "icehouse_answers",
            "Answers with pixels, by format and by how the cache was met.",
            ["format", "cache"],
            registry=self._registry,
        )
        self.hits = hits
        self._gone = Counter(
            "icehouse_clients_gone", "Clients that hung up before their answer.", registry=self._registry
        )

    def observe(self, route: str, method: str, status: int, seconds: float, note: RequestContext) -> None:
        """Count a request that has ended."""
        series = self._series.get((route, method, status))
        if series is None:  # labels() costs more than counting does
            series = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._series[route, method, status] = series
        requests, durations = series
        requests.inc()
        durations.observe(seconds)
        if note.kind:
            self._problems.labels(note.kind).inc()
        if note.trace is not None:
            self.hits.note(note.trace)
        if note.cache:
            self._answers.labels(note.format, note.cache).inc()
        if note.gone:
            self._gone.inc()

    def render(self) -> bytes:
        """Return the text exposition format."""
        return generate_latest(self._registry)


def _downloads(downloads: DownloadsSnapshot) -> Iterator[Metric]:
    settings = downloads.settings
    yield _gauge("icehouse_flights", "Chunks under way or queued.", downloads.flights)
    yield _gauge("icehouse_blocks_queued", "Blocks that wait to be fetched.", downloads.queued)
    yield _gauge("icehouse_blocks_queued_limit", "Blocks that may wait.", settings.max_queued_blocks)
    yield _gauge(
        "icehouse_blocks_oldest_seconds",
        "Time that the oldest waiting block has waited.",
        downloads.oldest,
    )
    yield _gauge("icehouse_blocks_running", "Blocks under way.", downloads.running)
    yield _gauge("icehouse_blocks_running_limit", "Blocks that may be under way.", settings.blocks_at_once)
    yield _gauges(
        "icehouse_collection_blocks_running",
        "Blocks of a collection under way.",
        "collection",
        downloads.running_by_collection,
    )


def _fetches(counts: FetchCounts) -> Iterator[Metric]:
    yield _counter("icehouse_blocks_fetched", "Blocks fetched.", counts.blocks_fetched)
    yield _counter("icehouse_chunks_fetched", "Chunks fetched and committed.", counts.chunks_fetched)
    yield _counter(
        "icehouse_chunks_joined", "Chunks that were under way for another caller.", counts.chunks_joined
    )
    yield _counters(
        "icehouse_chunks_failed", "Chunks that could not be filled.", "kind", counts.chunks_failed
    )
    yield _counter(
        "icehouse_chunks_backoff",
        "Chunks not asked for because they failed a moment before.",
        counts.chunks_backoff,
    )
    yield _counters("icehouse_retries", "Further tries of blocks, by cause.", "kind", counts.retries)
    yield _histograms(
        "icehouse_fetch_seconds",
        "Time from a block's first request to its commit or failure.",
        [({}, counts.fetch_seconds)],
    )
