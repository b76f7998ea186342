"""Loads of what is not cached, over a slow line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import rasterio
from harness import places
from harness.bench import Bench, same
from harness.measure import Check, Figure, Result, faster, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.places import Place
    from rasterio.windows import Window

_SMART_GEOCUBES_2M_BYTES = 9e9
"""Memory that must be free for smart-geocubes to load one tile of 2 m."""
_HEADER_BYTES = 65_536
"""A request that begins at byte 0 is for a file's header."""


def source_bytes(bench: Bench) -> list[Result]:
    return [_bytes_of(bench, 1000, bench.n(10, 4)), _bytes_of(bench, 3600, bench.n(4, 2))]


def _bytes_of(bench: Bench, size: int, number: int) -> Result:
    bench.line(slow=False)
    ratios, fetched, needed, headers = [], 0, 0, 0
    for place in places.scattered(number, size):
        with bench.daemon() as running, bench.client(running) as worker:
            bench.standins.reset()
            worker.loads([place])
        counters = bench.standins.cogs_counters()
        header = sum(
            min(_HEADER_BYTES, counters.by_path["GET", path][1])
            for path, ranges in counters.ranges.items()
            for asked in ranges
            if asked.startswith("bytes=0-")
        )
        pixels = counters.bytes - header
        under = sum(blocks_under(bench, tile, place) for tile in places.TILES_32M)
        ratios.append(pixels / under)
        fetched, needed, headers = fetched + pixels, needed + under, headers + header
    figures = [
        Figure(name="bytes by blocks under the window", values=tuple(ratios), unit="x"),
        Figure(name="fetched in all", values=(fetched / 1e6,), unit="MB"),
        Figure(name="blocks under the windows", values=(needed / 1e6,), unit="MB"),
        Figure(name="headers", values=(headers / 1e6,), unit="MB"),
    ]
    check = Check(
        target="at most 1.3 x the blocks under the windows, all together", value=fetched / needed, bound=1.3
    )
    return Result(
        what=f"cold load: bytes taken from the source, {size} x {size} at {number} random places",
        figures=figures,
        checks=[check],
    )


def blocks_under(bench: Bench, tile: str, place: Place) -> int:
    """Bytes of a tile's blocks under a place of its lattice, as the file's own table says."""
    left, bottom, right, top = places.bounds(place)
    with rasterio.open(bench.file("32m", tile)) as file:
        inside = (
            max(left, file.bounds.left),
            max(bottom, file.bounds.bottom),
            min(right, file.bounds.right),
            min(top, file.bounds.top),
        )
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            return 0
        window: Window = file.window(*inside)
        side = file.block_shapes[0][0]
        top_row, left_column = round(window.row_off), round(window.col_off)
        rows = range(top_row // side, -(-(top_row + round(window.height)) // side))
        columns = range(left_column // side, -(-(left_column + round(window.width)) // side))
        sizes = (
            file.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)
            for row in rows
            for column in columns
        )
        return sum(int(size) for size in sizes if size)


def two_metres(bench: Bench) -> list[Result]:
    place, number = places.SMALL_2M, bench.n(7, 3)
    bench.file("2m", places.TILE_2M)
    ours, memory, sent, mean = _ours(bench, place, number, "2m")
    odc, odc_mean = _odc(bench, place, number, "2m", [places.TILE_2M])
    _agree(mean, odc_mean)
    figures = [ours, odc, memory, Figure(name="taken from the source", values=tuple(sent), unit="MB")]
    checks = [
        within("at most 1.5 x odc-stac's time", ours, odc, 1.5),
        Check(target="daemon under 300 MB", value=max(memory.values), bound=300, unit="MB"),
    ]
    notes = []
    free = psutil.virtual_memory().available
    if not bench.smart_geocubes_2m:
        notes.append("smart-geocubes was left out (--no-smart-geocubes-2m)")
    elif free < _SMART_GEOCUBES_2M_BYTES:
        notes.append(f"smart-geocubes was left out: it needs 6 to 9 GB, and {free / 1e9:.0f} GB are free")
    else:
        smart_geocubes, peak = _smart_geocubes_2m(bench, place)
        figures += [smart_geocubes, peak]
        checks.insert(0, faster("100 x faster than smart-geocubes", ours, smart_geocubes, 100))
        notes.append("the stand-in's tile is sparse: a published one of smart-geocubes would be larger still")
    return [
        Result(
            what="cold 1000 x 1000 window of a 2 m tile, 40 ms and 100 Mbit/s",
            figures=figures,
            checks=checks,
            notes=notes,
        )
    ]


def _smart_geocubes_2m(bench: Bench, place: Place) -> tuple[Figure, Figure]:
    bench.line(slow=True)
    with bench.smart_geocubes(bench.folder("smart-geocubes-2m"), "2m", create=True) as worker:
        answer = worker.ask(400, do="load", places=[place])
    return (
        Figure.of_seconds("smart-geocubes", answer["seconds"]),
        Figure(name="smart-geocubes, highest resident", values=(answer["peak"],), unit="MB"),
    )


def thirty_two_metres(bench: Bench) -> list[Result]:
    place, number = places.SMALL, bench.n(9, 3)
    ours, _, sent, mean = _ours(bench, place, number, "32m")
    odc, odc_mean = _odc(bench, place, number, "32m", ["67_33"])
    _agree(mean, odc_mean)
    seconds: list[float] = []
    for _ in range(bench.n(3, 1)):
        bench.line(slow=True)
        with bench.smart_geocubes(bench.folder("smart-geocubes-cold"), create=True) as worker:
            seconds += worker.loads([place])
    smart_geocubes = Figure.of_seconds("smart-geocubes", seconds)
    took = Figure(name="taken from the source", values=tuple(sent), unit="MB")
    return [
        Result(
            what="cold 1000 x 1000 at 32 m, 40 ms and 100 Mbit/s",
            figures=[ours, odc, smart_geocubes, took],
            checks=[within("no slower than odc-stac, although it is committed", ours, odc, 1)],
        )
    ]


def _ours(
    bench: Bench, place: Place, number: int, resolution: str
) -> tuple[Figure, Figure, list[float], float | None]:
    """Cold loads, each by a daemon on a fresh cache: time, the daemon's memory, MB taken, mean of pixels."""
    seconds: list[float] = []
    peaks: list[float] = []
    sent: list[float] = []
    mean = None
    for _ in range(number):
        with bench.daemon() as running, bench.client(running, resolution=resolution) as worker:
            bench.line(slow=True)
            answer = worker.ask(do="load", places=[place])
            seconds += answer["seconds"]
            mean = answer["mean"]
            peaks.append(running.memory()["peak"])
            sent.append(bench.standins.cogs_counters().bytes / 1e6)
    memory = Figure(name="daemon, highest resident", values=tuple(peaks), unit="MB")
    return Figure.of_seconds("Icehouse", seconds), memory, sent, mean


def _odc(
    bench: Bench, place: Place, number: int, resolution: str, tiles: Sequence[str]
) -> tuple[Figure, float | None]:
    """The same with odc-stac, which is given the items, by a fresh process for each load."""
    seconds: list[float] = []
    mean = None
    for _ in range(number):
        bench.line(slow=False)
        with bench.odc(resolution, tiles, place) as worker:
            bench.line(slow=True)
            answer = worker.ask(do="load", places=[place])
            seconds += answer["seconds"]
            mean = answer["mean"]
    return Figure.of_seconds("odc-stac", seconds), mean


def _agree(ours: float | None, theirs: float | None) -> None:
    if not same(ours, theirs):
        raise AssertionError(f"the two sides loaded different pixels: means {ours} and {theirs}")
