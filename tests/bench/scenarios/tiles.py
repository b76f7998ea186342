"""Warm map tiles: from the cache, and by titiler from the local COG."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from typing import TYPE_CHECKING

from harness.bench import Bench, alternately
from harness.environments import python_of
from harness.measure import Check, Figure, Result, faster
from harness.processes import Worker, server

if TYPE_CHECKING:
    from collections.abc import Sequence

_ZOOM = 12
_LON, _LAT = 150.803, 64.966
"""The middle of tile 67_33."""
_SIDE = 16
"""Tiles each way: 256 different ones, in all about 65 km wide."""
_CLIENTS = 8
_ROUNDS = 3
_PAUSE = 0.5
"""Seconds until all clients begin at once."""

_STYLES = {
    "colours": (
        "rescale=0,1500&colormap_name=viridis&resampling=bilinear",
        "rescale=0,1500&colormap_name=viridis&resampling=bilinear&reproject=bilinear",
    ),
    "relief": (
        "style=hillshade&resampling=bilinear",
        "algorithm=hillshade&resampling=bilinear&reproject=bilinear",
    ),
}
"""Words of the query: ours, titiler's."""


def png_tile(bench: Bench) -> list[Result]:
    return [_result(bench, name, *words) for name, words in _STYLES.items()]


def _result(bench: Bench, name: str, ours: str, theirs: str) -> Result:
    collection, path = bench.collection(), bench.file("32m", "67_33")
    urls = {
        "Icehouse": [f"/collections/{collection}/xyz/{z}/{x}/{y}.png?{ours}" for z, x, y in _tiles()],
        "titiler": [
            f"/cog/tiles/WebMercatorQuad/{z}/{x}/{y}.png?url={path}&tilesize=256&{theirs}"
            for z, x, y in _tiles()
        ],
    }
    number, seconds = bench.n(96, 24), bench.n(5, 2)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(bench.daemon(bench.warm_cache))
        titiler = stack.enter_context(server("titiler_app", python=python_of("titiler")))
        ports = {"Icehouse": running.port, "titiler": titiler}
        workers = {
            side: stack.enter_context(Worker.start_many(_CLIENTS, "load_http", {"port": port}))
            for side, port in ports.items()
        }
        for side, crowd in workers.items():
            crowd[0].loads(urls[side])
        each = number // _ROUNDS
        turns = {side: iter(range(0, number, each)) for side in workers}
        alone = alternately(
            _ROUNDS,
            {
                side: lambda side=side: workers[side][0].loads(  # type: ignore[misc]
                    urls[side][(first := next(turns[side])) : first + each]
                )
                for side in workers
            },
        )
        crowded = alternately(
            _ROUNDS,
            {side: lambda side=side: [_rate(workers[side], urls[side], seconds)] for side in workers},  # type: ignore[misc]
        )
    figures = [Figure.of_seconds(f"{side}, one client", alone[side]) for side in workers]
    rates = [
        Figure(name=f"{side}, {_CLIENTS} clients", values=tuple(crowded[side]), unit="tiles/s")
        for side in workers
    ]
    ratio = rates[0].median / rates[1].median
    return Result(
        what=f"warm 256-pixel PNG tile over HTTP, WebMercatorQuad, {name}",
        figures=[*figures, *rates],
        checks=[
            faster("no slower than titiler on the local COG", *figures, 1),
            Check(target="2 x titiler's tiles per second", value=ratio, bound=2, at_least=True),
        ],
    )


def _tiles() -> list[tuple[int, int, int]]:
    """Different tiles around a place, by zoom, column and row."""
    n = 2**_ZOOM
    col = int((_LON + 180) / 360 * n)
    row = int((1 - math.asinh(math.tan(math.radians(_LAT))) / math.pi) / 2 * n)
    steps = range(-_SIDE // 2, _SIDE // 2)
    return [(_ZOOM, col + across, row + down) for down, across in itertools.product(steps, steps)]


def _rate(workers: Sequence[Worker], urls: Sequence[str], seconds: float) -> float:
    """Tiles per second that all clients get together, each its own tiles."""
    at = time.time() + _PAUSE
    for number, worker in enumerate(workers):
        worker.send(do="rate", places=urls[number :: len(workers)], at=at, seconds=seconds)
    answers = [worker.receive(seconds + 120) for worker in workers]
    return sum(answer["number"] / (answer["end"] - at) for answer in answers)
