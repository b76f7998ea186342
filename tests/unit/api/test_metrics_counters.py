"""Counters that the metrics read: distributions, hosts, and what a fetch costs."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from icehouse_server.aio.fetch_context import FETCH, FetchTally, request_headers
from icehouse_server.api.observability.metrics import _histograms
from icehouse_server.core.histogram import Histogram
from icehouse_server.sources.http.host_traffic import MAX_HOSTS, OTHER, Traffic

values = st.lists(st.floats(0, 100, allow_nan=False))


@given(values, st.lists(st.floats(0, 100, allow_nan=False), unique=True, max_size=5).map(sorted))
def test_distribution_becomes_a_histogram_of_prometheus(seen, bounds):
    distribution = Histogram(bounds)
    for value in seen:
        distribution.observe(value)

    class One:
        def collect(self):
            return [_histograms("x", "text", [({"a": "b"}, distribution)])]

    registry = CollectorRegistry()
    registry.register(One())
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    for bound in bounds:
        assert samples["x_bucket", str(bound)] == sum(value <= bound for value in seen)
    assert samples["x_bucket", "+Inf"] == samples["x_count", None] == len(seen)
    assert samples["x_sum", None] == pytest.approx(sum(seen))


def test_hosts_beyond_a_bound_share_a_name():
    traffic = Traffic()
    for number in range(3 * MAX_HOSTS):
        traffic.request(f"h{number}")
        traffic.received(f"h{number}", 10)
        traffic.error(f"h{number}", "source-refused")
    found = traffic.snapshot()
    assert len(found) == MAX_HOSTS + 1
    assert found["h0"].requests == 1
    assert found[OTHER].requests == 2 * MAX_HOSTS
    assert found[OTHER].bytes == 20 * MAX_HOSTS
    assert found[OTHER].errors == {"source-refused": 2 * MAX_HOSTS}


async def test_requests_of_a_fetch_count_for_it_in_tasks_and_threads():
    traffic, mine, other = Traffic(), FetchTally(id="mine"), FetchTally(id="other")

    async def ask(tally):
        FETCH.set(tally)
        context = contextvars.copy_context()
        traffic.request("h")
        traffic.received("h", 5)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, context.run, traffic.received, "h", 7)
        assert request_headers() == {"X-Request-ID": tally.id}

    await asyncio.gather(*(asyncio.create_task(ask(tally)) for tally in (mine, other, mine)))
    assert (mine.requests, mine.bytes, other.requests, other.bytes) == (2, 24, 1, 12)
    assert traffic.snapshot()["h"].bytes == 36
    assert request_headers() == {}


def test_counting_from_many_threads_loses_nothing():
    traffic, tally = Traffic(), FetchTally()

    def count():
        FETCH.set(tally)
        for _ in range(2000):
            traffic.received("h", 1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.bytes == 16_000
