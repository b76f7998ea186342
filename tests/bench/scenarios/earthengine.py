"""Collections of Earth Engine: requests, bytes and time against smart-geocubes on the same stand-in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psutil
from harness import places
from harness.bench import BANDWIDTH, Bench
from harness.measure import Check, Figure, Result
from harness.processes import Worker

if TYPE_CHECKING:
    from harness.places import Place

    from icehouse_server.demo.standins import Counters

_LATENCY: Final = 0.3
"""Seconds before each answer."""
_LINE: Final = "300 ms and 100 Mbit/s"
_SMART_GEOCUBES_BYTES: Final = 10e9
"""Memory that must be free for smart-geocubes to load four patches of TCTrend at once."""
_LIMIT: Final = 48 * 1024**2
_PIXEL: Final = 64 * (4 + 1)
"""Bytes that Earth Engine counts for a pixel of 64 bands float32: one of mask for each band and pixel."""
_CHUNK: Final = 384
"""Of the collection alphaearth."""
_SIDE: Final = 2 * _CHUNK
_SMART_GEOCUBES_WHOLE: Final = (3600 // 256 + 1) ** 2 * 64
"""Requests of smart-geocubes for one patch and year at its own chunk size."""
_AGREE: Final = 0.98
"""Share of pixels that are the same on both sides; they fill holes in different ways."""


@dataclass(kw_only=True)
class _Side:
    """What one side took, load by load."""

    name: str
    seconds: list[float] = field(default_factory=list)
    pixels: list[float] = field(default_factory=list)
    """Requests for pixels."""
    others: list[float] = field(default_factory=list)
    bytes: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    """Resident memory in MB at its highest, of the daemon or of smart-geocubes."""
    sample: list[float] = field(default_factory=list)

    def add(self, seconds: float, counters: Counters, peak: float) -> None:
        pixels = counters.matching(":computePixels")[0]
        self.seconds.append(seconds)
        self.pixels.append(pixels)
        self.others.append(counters.requests - pixels)
        self.bytes.append(counters.bytes / 1e6)
        self.peaks.append(peak)

    def figures(self) -> list[Figure]:
        return [
            Figure.of_seconds(self.name, self.seconds),
            Figure(name=f"{self.name}, requests for pixels", values=tuple(self.pixels), unit="requests"),
            Figure(name=f"{self.name}, other requests", values=tuple(self.others), unit="requests"),
            Figure(name=f"{self.name}, bytes", values=tuple(self.bytes), unit="MB"),
            Figure(name=f"{self.name}, highest resident", values=tuple(self.peaks), unit="MB"),
        ]


def trends(bench: Bench) -> list[Result]:
    """TCTrend, one region in the middle of a patch of smart-geocubes, and one that lies in four."""
    aligned = places.geographic("tctrend", 22 * 3600, 206 * 3600, 3600)
    across = places.geographic("tctrend", 22 * 3600 + 1801, 206 * 3600 + 1733, 3600)
    return [
        _trends_of(bench, "one patch of smart-geocubes", aligned, _inset(aligned), smart_geocubes=True),
        _trends_of(
            bench, "across four patches of smart-geocubes", across, across, smart_geocubes=not bench.quick
        ),
    ]


def _trends_of(bench: Bench, where: str, place: Place, theirs: Place, *, smart_geocubes: bool) -> Result:
    bands = ["TCB_slope", "TCG_slope", "TCW_slope"]
    ours = _ours(bench, bench.n(3, 1), place, theirs, collection="tctrend-2024", bands=bands)
    figures, notes = ours.figures(), []
    free = psutil.virtual_memory().available
    if smart_geocubes and free < _SMART_GEOCUBES_BYTES:
        notes.append(f"smart-geocubes was left out: four patches take 9 GB, and {free / 1e9:.0f} GB are free")
    elif smart_geocubes:
        side = _smart_geocubes(bench, theirs, dataset="tctrend", band=bands[0])
        _agree(ours, side)
        figures += side.figures()
    if theirs is not place:
        notes.append("smart-geocubes is asked for one pixel less on each side, else it takes a second patch")
    requests = max(ours.pixels)
    checks = [Check(target="at most 4 requests for pixels", value=requests, bound=4, unit="requests")]
    what = f"TCTrend, cold, 3600 x 3600 with 3 bands, {where}, {_LINE}"
    return Result(what=what, figures=figures, checks=checks, notes=notes)


def embeddings(bench: Bench) -> list[Result]:
    """AlphaEarth, 64 bands of one year."""
    row, col = (index // _SIDE * _SIDE for index in (244_913, 2_226_389))  # 68 N, 20 E
    place = places.geographic("alphaearth", row, col, _SIDE)
    across = places.geographic("alphaearth", row + 100, col + 100, _SIDE)
    return [
        _embeddings_of(bench, "chunks side by side", place, chunks=4, smart_geocubes=True),
        _embeddings_of(bench, "across chunks", across, chunks=9, smart_geocubes=False),
    ]


def _embeddings_of(bench: Bench, where: str, place: Place, *, chunks: int, smart_geocubes: bool) -> Result:
    bands = [f"A{number:02d}" for number in range(64)]
    year, theirs = "2020-01-01", _inset(place)
    repeats = bench.n(3, 1)
    ours = _ours(bench, repeats, place, theirs, collection="alphaearth", bands=bands, datetime=year)
    figures, notes = ours.figures(), []
    if smart_geocubes:
        side = _smart_geocubes(bench, theirs, dataset="alphaearth", band=bands[0], datetime=year, chunk=_SIDE)
        _agree(ours, side)
        figures += side.figures()
        notes.append(
            f"the class of smart-geocubes with patches of {_SIDE} pixels instead of 3600, with which "
            f"it would make {_SMART_GEOCUBES_WHOLE:,} requests for any region (derived, not measured)"
        )
    least = math.ceil(chunks * _CHUNK**2 * _PIXEL / _LIMIT)
    window = math.ceil(_SIDE**2 * _PIXEL / _LIMIT)
    notes.append(f"{least} requests can hold the chunks under the window, {window} the window itself")
    check = Check(
        target="at most 1.2 x the requests that can hold the chunks",
        value=max(ours.pixels) / least,
        bound=1.2,
    )
    what = f"AlphaEarth, cold, {_SIDE} x {_SIDE} with 64 bands of one year, {where}, {_LINE}"
    return Result(what=what, figures=figures, checks=[check], notes=notes)


def _ours(bench: Bench, number: int, place: Place, seen: Place, **config: Any) -> _Side:
    """Cold loads, each by a daemon on a fresh cache; the sample is of the place `seen`, which lies inside."""
    standin, side = bench.earthengine, _Side(name="Icehouse")
    settings = {
        "ICEHOUSE_EARTHENGINE_URL": standin.url,
        "ICEHOUSE_EARTHENGINE_PROJECT": "bench",
        "ICEHOUSE_EARTHENGINE_CREDENTIALS": "none",
    }
    for _ in range(number):
        with bench.daemon(mirrors={}, **settings) as running, bench.client(running, **config) as worker:
            standin.shape(latency=_LATENCY, bandwidth=BANDWIDTH)
            standin.reset()
            seconds = worker.loads([place])
            side.add(seconds[0], standin.counters(), running.memory()["peak"])
            side.sample = worker.ask(do="load", places=[seen])["sample"]
    return side


def _smart_geocubes(bench: Bench, place: Place, **config: Any) -> _Side:
    """One cold load, by a process that has started Earth Engine's library."""
    standin, side = bench.earthengine, _Side(name="smart-geocubes")
    standin.shape()
    config |= {"url": standin.url, "cube": str(bench.folder("smart-geocubes-cube"))}
    with Worker.start("load_smart_geocubes_ee", config, python=bench.smart_geocubes_python) as worker:
        standin.shape(latency=_LATENCY, bandwidth=BANDWIDTH)
        standin.reset()
        answer = worker.ask(1200, do="load", places=[place])
        side.add(answer["seconds"][0], standin.counters(), answer["peak"])
        side.sample = answer["sample"]
    return side


def _inset(place: Place) -> Place:
    """A place without its outermost pixels."""
    a, b, left, d, e, top = place["affine"]
    rows, columns = place["shape"]
    return {**place, "affine": [a, b, left + a, d, e, top + e], "shape": [rows - 2, columns - 2]}


def _agree(ours: _Side, theirs: _Side) -> None:
    pairs = list(zip(ours.sample, theirs.sample, strict=True))
    share = sum(math.isclose(one, other, rel_tol=1e-6) for one, other in pairs) / len(pairs)
    if share < _AGREE:
        raise AssertionError(f"the two sides loaded different pixels: {share:.0%} are the same")
