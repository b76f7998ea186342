"""Many workers at once."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from harness import places
from harness.bench import LATENCY, Bench
from harness.measure import Check, Figure, Result, within
from harness.processes import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.places import Place

    from icehouse_server.demo.standins import Counters
    from icehouse_server.testing.daemon import DaemonProcess

_WORKERS = 32
_STREAMS = 6
_PAUSE = 1.0


def one_region(bench: Bench) -> list[Result]:
    """32 processes ask for one cold region at the same moment."""
    one: list[float] = []
    many: list[float] = []
    extra = again = 0
    for _ in range(bench.n(5, 1)):
        seconds, alone = _cold(bench, 1)
        one.append(seconds)
        seconds, counters = _cold(bench, _WORKERS)
        many.append(seconds)
        extra += counters.bytes - alone.bytes
        again += _asked_again(counters)
    single = Figure.of_seconds("one worker", one)
    all_of_them = Figure.of_seconds("32 workers", many)
    checks = [
        Check(target="each block fetched once: ranges asked for again", value=again, bound=0, unit="ranges"),
        Check(
            target="each block fetched once: bytes more than one worker", value=extra, bound=0, unit="bytes"
        ),
        within("at most 1.2 x the time of one worker", all_of_them, single, 1.2),
    ]
    return [
        Result(
            what="32 workers, the same cold region of 1000 x 1000, 40 ms and 100 Mbit/s",
            figures=[all_of_them, single],
            checks=checks,
            notes=["from the common start to the end of the last; the workers have imported everything"],
        )
    ]


def _cold(bench: Bench, number: int) -> tuple[float, Counters]:
    with (
        bench.daemon() as running,
        Worker.start_many(number, "load_client", bench.client_config(running)) as workers,
    ):
        bench.line(slow=True)
        at = time.time() + _PAUSE
        for worker in workers:
            worker.send(do="at", place=places.SMALL, at=at)
        last = max(worker.receive(120)["end"] for worker in workers)
        return last - at, bench.standins.cogs_counters()


def _asked_again(counters: Counters) -> int:
    return sum(len(ranges) - len(set(ranges)) for ranges in counters.ranges.values())


def beside_large(bench: Bench) -> list[Result]:
    """A small load alone, and while six others load large regions as fast as they can."""
    return [_warm_beside(bench), _cold_beside(bench)]


def _warm_beside(bench: Bench) -> Result:
    number = bench.n(60, 15)
    small = places.on_grid(-770_000, 2_670_000, 256)
    with bench.daemon(bench.warm_cache) as running, bench.client(running) as worker:
        worker.loads([small] * 3)
        alone = Figure.of_seconds("alone", worker.loads([small] * number))
        with _streaming(bench, running, [[places.LARGE]] * _STREAMS):
            next_to_six = Figure.of_seconds("next to six", worker.loads([small] * number))
    return Result(
        what="a warm load of 256 x 256 next to 6 streaming warm ones of 3600 x 3600",
        figures=[next_to_six, alone],
        checks=[within("at most 2 x its time alone", next_to_six, alone, 2)],
        notes=["smart-geocubes: 10 x (quoted from an earlier measurement, not part of this run)"],
    )


def _cold_beside(bench: Bench) -> Result:
    number = bench.n(12, 4)
    small = places.scattered(2 * number, 256, seed=7)
    large = places.scattered(_STREAMS * 4, 2500, seed=8)
    with bench.daemon() as running, bench.client(running) as worker:
        bench.standins.shape(latency=LATENCY)
        alone = Figure.of_seconds("alone", worker.loads(small[:number]))
    lists = [large[index::_STREAMS] for index in range(_STREAMS)]
    with bench.daemon() as running, bench.client(running) as worker, _streaming(bench, running, lists):
        next_to_six = Figure.of_seconds("next to six", worker.loads(small[number:]))
    return Result(
        what="a cold load of 256 x 256 next to 6 cold ones of 2500 x 2500, 40 ms",
        figures=[next_to_six, alone],
        checks=[within("at most 2 x its time alone", next_to_six, alone, 2)],
        notes=["the line's bandwidth is not limited: it would be shared, whoever serves"],
    )


@contextlib.contextmanager
def _streaming(bench: Bench, running: DaemonProcess, lists: Sequence[Sequence[Place]]) -> Iterator[None]:
    """Processes that load large places without a pause until the block is left."""
    stop = threading.Event()
    with Worker.start_many(len(lists), "load_client", bench.client_config(running)) as workers:

        def stream(worker: Worker, wanted: Sequence[Place]) -> None:
            turn = 0
            while not stop.is_set():
                worker.loads([wanted[turn % len(wanted)]])
                turn += 1

        threads = [
            threading.Thread(target=stream, args=(worker, wanted), daemon=True)
            for worker, wanted in zip(workers, lists, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(timeout=120)
