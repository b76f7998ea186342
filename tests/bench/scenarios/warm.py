"""Loads of what is cached."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING

from harness import places
from harness.bench import Bench, alternately, same
from harness.measure import Check, Figure, Result, faster, within
from harness.processes import Worker, server

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.places import Place

_ROUNDS = 3
_PROCESSES = 8
_PAUSE = 1.0


def small(bench: Bench) -> list[Result]:
    ours, raw, smart_geocubes = _three_sides(bench, places.SMALL, bench.n(60, 15))
    checks = [
        faster("15 x faster than the warm load of smart-geocubes", ours, smart_geocubes, 15),
        within("within 3 x of a raw loopback transfer of the same bytes", ours, raw, 3),
    ]
    return [Result(what="warm load, 1000 x 1000 float32", figures=[ours, raw, smart_geocubes], checks=checks)]


def large(bench: Bench) -> list[Result]:
    ours, raw, smart_geocubes = _three_sides(bench, places.LARGE, bench.n(30, 9))
    checks = [faster("5 x faster than smart-geocubes", ours, smart_geocubes, 5)]
    return [Result(what="warm load, 3600 x 3600 float32", figures=[ours, raw, smart_geocubes], checks=checks)]


def _three_sides(bench: Bench, place: Place, number: int) -> tuple[Figure, Figure, Figure]:
    """Ours, the raw transfer and smart-geocubes, each in a process of its own, in turns."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(bench.daemon(bench.warm_cache))
        workers = {
            "Icehouse": stack.enter_context(bench.client(running)),
            "raw HTTP": stack.enter_context(
                Worker.start("load_raw", {"port": stack.enter_context(server("raw_server"))})
            ),
            "smart-geocubes": stack.enter_context(bench.smart_geocubes(bench.smart_geocubes_cube)),
        }
        means = {name: worker.ask(do="load", places=[place] * 3)["mean"] for name, worker in workers.items()}
        if not same(means["Icehouse"], means["smart-geocubes"]):
            raise AssertionError(f"the two sides loaded different pixels: {means}")
        each = [place] * (number // _ROUNDS)
        sides: dict[str, Callable[[], list[float]]] = {
            name: lambda worker=worker: worker.loads(each)  # type: ignore[misc]
            for name, worker in workers.items()
        }
        found = alternately(_ROUNDS, sides)
    ours, raw, smart_geocubes = (Figure.of_seconds(name, found[name]) for name in workers)
    return ours, raw, smart_geocubes


def new_worker(bench: Bench) -> list[Result]:
    """From the start of the interpreter to the pixels of the first load."""
    number = bench.n(7, 3)
    seconds: dict[str, list[float]] = {"Icehouse": [], "smart-geocubes": []}
    peaks: dict[str, list[float]] = {"Icehouse": [], "smart-geocubes": []}
    with bench.daemon(bench.warm_cache) as running:
        with bench.client(running) as warming:
            warming.loads([places.SMALL])
        starts: dict[str, Callable[[], Worker]] = {
            "Icehouse": lambda: Worker.spawn(
                "load_client", bench.client_config(running) | {"first": places.SMALL}
            ),
            "smart-geocubes": lambda: Worker.spawn(
                "load_smart_geocubes",
                bench.smart_geocubes_config(bench.smart_geocubes_cube) | {"first": places.SMALL},
                python=bench.smart_geocubes_python,
            ),
        }
        for start in starts.values():  # byte code is compiled, files are in the page cache
            _started(start)
        for _ in range(number):
            for name, start in starts.items():
                took, peak = _started(start)
                seconds[name].append(took)
                peaks[name].append(peak)
    ours, smart_geocubes = (Figure.of_seconds(name, seconds[name]) for name in seconds)
    memory = Figure(name="Icehouse, highest resident", values=tuple(peaks["Icehouse"]), unit="MB")
    theirs = Figure(name="smart-geocubes, highest resident", values=tuple(peaks["smart-geocubes"]), unit="MB")
    checks = [
        faster("5 x faster than smart-geocubes", ours, smart_geocubes, 5),
        Check(target="under 150 MB resident", value=memory.median, bound=150, unit="MB"),
    ]
    return [
        Result(
            what="a new worker process: start, import, first warm load of 1000 x 1000",
            figures=[ours, smart_geocubes, memory, theirs],
            checks=checks,
        )
    ]


def _started(start: Callable[[], Worker]) -> tuple[float, float]:
    worker = start()
    try:
        worker.wait(120)
        return worker.ready["time"] - worker.spawned, worker.ready["peak"]
    finally:
        worker.close()


def after_restart(bench: Bench) -> list[Result]:
    """The first read of a daemon that has just started, by a worker that has imported everything."""
    ours: list[float] = []
    smart_geocubes: list[float] = []
    for _ in range(bench.n(9, 3)):
        with bench.daemon(bench.warm_cache) as running, bench.client(running) as worker:
            ours += worker.loads([places.SMALL])
        with bench.smart_geocubes(bench.smart_geocubes_cube) as worker:
            smart_geocubes += worker.loads([places.SMALL])
    figures = Figure.of_seconds("Icehouse", ours), Figure.of_seconds("smart-geocubes", smart_geocubes)
    return [
        Result(
            what="first read after a restart of the daemon, 1000 x 1000 "
            "(smart-geocubes: opening and first load)",
            figures=figures,
            checks=[faster("4 x faster than smart-geocubes", *figures, 4)],
        )
    ]


def eight_processes(bench: Bench) -> list[Result]:
    seconds = bench.n(8, 3)
    with (
        bench.daemon(bench.warm_cache) as running,
        Worker.start_many(_PROCESSES, "load_client", bench.client_config(running)) as workers,
    ):
        ours = _rates(workers, seconds, bench.n(3, 1))
        raw = _raw_rates(seconds, bench.n(3, 1))
    config = bench.smart_geocubes_config(bench.smart_geocubes_cube)
    python = bench.smart_geocubes_python
    with Worker.start_many(_PROCESSES, "load_smart_geocubes", config, python=python) as workers:
        smart_geocubes = _rates(workers, seconds, bench.n(3, 1))
    figures = [
        Figure(name=name, values=tuple(values), unit="loads/s")
        for name, values in (("Icehouse", ours), ("raw HTTP", raw), ("smart-geocubes", smart_geocubes))
    ]
    ratio = statistics.median(ours) / statistics.median(smart_geocubes)
    return [
        Result(
            what="8 processes, warm loads of 1000 x 1000 in all",
            figures=figures,
            checks=[Check(target="20 x smart-geocubes", value=ratio, bound=20, at_least=True)],
        )
    ]


def _raw_rates(seconds: float, rounds: int) -> list[float]:
    """The same from eight raw servers, one for each process."""
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker.start("load_raw", {"port": stack.enter_context(server("raw_server"))}))
            for _ in range(_PROCESSES)
        ]
        return _rates(workers, seconds, rounds)


def _rates(workers: list[Worker], seconds: float, rounds: int) -> list[float]:
    for worker in workers:
        worker.loads([places.SMALL])
    rates: list[float] = []
    for _ in range(rounds):
        at = time.time() + _PAUSE
        for worker in workers:
            worker.send(do="rate", places=[places.SMALL], at=at, seconds=seconds)
        answers = [worker.receive(seconds + 120) for worker in workers]
        last = max(answer["end"] for answer in answers)
        rates.append(sum(answer["number"] for answer in answers) / (last - at))
    return rates
