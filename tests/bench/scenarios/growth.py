"""What a full cache costs: planning, committing and starting next to a million cached chunks."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import icechunk
from harness import places
from harness.measure import Check, Figure, Result
from zarr.core.buffer import cpu

from icehouse_server.collections import read_collections
from icehouse_server.store import StoreSettings
from icehouse_server.store.layout import layout
from support.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.bench import Bench

    from icehouse_server.core.collection import CollectionSpec
    from icehouse_server.testing.daemon import DaemonProcess

_BAND = "dem"
_COMMIT_CHUNKS = 100_000
_HOLE = 8
"""Chunks each way around the place that are left absent: those are filled and timed."""
_START_SECONDS = 5.0
_SMART_GEOCUBES = (
    "smart-geocubes: 53 ms for a new patch when empty, 238 ms at 200,000 (quoted from an earlier measurement)"
)
_FILE_BYTES = 700
"""More than Icechunk puts into a manifest itself."""


def plan_and_commit(bench: Bench) -> list[Result]:
    """The same region planned, and single chunks filled, with more and more in the same repository."""
    counts = (0, 100_000, 1_000_000) if not bench.quick else (0, 100_000)
    plans: list[Figure] = []
    commits: list[Figure] = []
    starts: list[Figure] = []
    for count in counts:
        cache = bench.folder("growth")
        asyncio.run(_populate(bench, cache, count))
        name = f"{count:,} chunks"
        plan, commit, start = _measure(bench, cache, count)
        plans.append(Figure.of_seconds(name, plan))
        commits.append(Figure.of_seconds(name, commit))
        starts.append(Figure.of_seconds(name, start))
    return [
        _flat("plan of 1000 x 1000 with more and more cached chunks", plans),
        _flat("commit of one chunk with more and more cached chunks", commits, _SMART_GEOCUBES),
        _start_up(starts),
    ]


def _flat(what: str, figures: list[Figure], *notes: str) -> Result:
    # Means: the daemon's clock for commits ticks in milliseconds.
    means = [statistics.fmean(figure.values) for figure in figures]
    return Result(
        what=what,
        figures=figures,
        checks=[
            Check(
                target="flat: at most 1.5 x an empty cache, by means", value=max(means) / means[0], bound=1.5
            )
        ],
        notes=notes,
    )


def _start_up(figures: list[Figure]) -> Result:
    most = figures[-1]
    check = Check(
        target=f"under 5 s with {most.name}", value=most.median / 1000, bound=_START_SECONDS, unit="s"
    )
    return Result(what="start-up until the daemon is ready", figures=figures, checks=[check])


def _measure(bench: Bench, cache: Path, count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of plans, of commits of single chunks, and of starts."""
    starts: list[float] = []
    for _ in range(bench.n(3, 1)):
        with bench.daemon(cache) as running:
            starts.append(running.start_seconds)
    bench.line(slow=False)
    with bench.daemon(cache) as running:
        listed = _total(_metrics(running), "icehouse_chunks_cached")
        if listed != count:
            raise AssertionError(f"the daemon lists {listed} chunks, not {count}")
        plans = _plans(running, bench.collection("2m"), bench.n(50, 10))
        with bench.client(running, resolution="2m") as worker:
            commits: list[float] = []
            for place in _single_chunks(_spec(bench)):
                count, seconds = _committed(running)
                worker.loads([place])
                after_count, after = _committed(running)
                if after_count == count + 1:
                    commits.append(after - seconds)
    if not commits:
        raise AssertionError("no fill was a commit of its own")
    return plans, commits[1:], starts


def _plans(running: DaemonProcess, collection: str, number: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    body = json.dumps(
        {
            "proj:code": places.SMALL_2M["crs"],
            "proj:transform": places.SMALL_2M["affine"],
            "proj:shape": places.SMALL_2M["shape"],
            "bands": [_BAND],
        }
    )
    seconds: list[float] = []
    for _ in range(number + 3):
        begun = time.perf_counter()
        connection.request(
            "POST", f"/collections/{collection}/plan", body, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        text = response.read()
        seconds.append(time.perf_counter() - begun)
        if response.status != 200:
            raise AssertionError(f"plan answered {response.status}: {text[:300]!r}")
    connection.close()
    return seconds[3:]


def _committed(running: DaemonProcess) -> tuple[int, float]:
    """Commits and seconds spent in them, by the daemon's own metrics."""
    text = _metrics(running)
    return int(_total(text, "icehouse_commits_total")), _total(text, "icehouse_commit_seconds_sum")


def _metrics(running: DaemonProcess) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def _total(metrics: str, name: str) -> float:
    """One metric, over all collections."""
    return sum(float(value) for value in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", metrics, re.MULTILINE))


def _spec(bench: Bench) -> CollectionSpec:
    name = bench.collection("2m")
    folder = bench.settings.get("ICEHOUSE_COLLECTIONS_DIR")
    from pathlib import Path

    return read_collections(None if folder is None else Path(folder), (name,))[name]


def _centre(spec: CollectionSpec) -> tuple[int, int]:
    """Row and column of the chunk in the middle of the place."""
    left, bottom, right, top = places.bounds(places.SMALL_2M)
    affine, side = spec.grid.geobox.affine, spec.grid.chunk
    column, row = ~affine * ((left + right) / 2, (bottom + top) / 2)
    return int(row) // side, int(column) // side


def _single_chunks(spec: CollectionSpec) -> Iterator[places.PixelCoordinates]:
    """Small places, each within one of the absent chunks."""
    middle_row, middle_column = _centre(spec)
    affine, side = spec.grid.geobox.affine, spec.grid.chunk
    for row in range(middle_row - 2, middle_row + 3):
        for column in range(middle_column - 2, middle_column + 3):
            x, y = affine * (column * side + side // 4, row * side + side // 4)
            yield places.native(x, y, 16, 16, affine.a)


async def _populate(bench: Bench, cache: Path, count: int) -> None:
    """List chunks in a repository of the store's own making, in a square around the place.

    In the manifests that the timed commits rewrite, each is a chunk in a file, as it would be in use.
    Elsewhere they are references to bytes that are nowhere: a million of them take seconds to make, and
    nothing reads them.
    """
    spec = _spec(bench)
    with ThreadPoolExecutor(2) as pool:
        settings = StoreSettings(decoded_cache_bytes=0, write_timeout=600)
        async with open_store(cache, [spec], settings, pool=pool) as store:
            pass
        repository = store.collections[spec.id].head.repository
        row, column = _centre(spec)
        rewritten = {_manifest(row + down, column + right) for down in (-2, 2) for right in (-2, 2)}
        near: list[tuple[int, int]] = []
        far: list[tuple[int, int]] = []
        for key in _around(spec, count):
            (near if _manifest(*key) in rewritten else far).append(key)
        await _write(repository, near)
        for start in range(0, len(far), _COMMIT_CHUNKS):
            await _list(repository, far[start : start + _COMMIT_CHUNKS])


def _manifest(row: int, column: int) -> tuple[int, int]:
    """Which manifest a chunk is listed in."""
    return row // layout._MANIFEST_SPLIT, column // layout._MANIFEST_SPLIT


async def _write(repository: icechunk.Repository, keys: list[tuple[int, int]]) -> None:
    if not keys:
        return
    session = await repository.writable_session_async("main")
    data = cpu.Buffer.from_bytes(os.urandom(_FILE_BYTES))
    for start in range(0, len(keys), 2000):
        some = keys[start : start + 2000]
        await asyncio.gather(*(session.store.set(f"{_BAND}/c/{row}/{column}", data) for row, column in some))
    await session.commit_async(f"write {len(keys)} chunks")


async def _list(repository: icechunk.Repository, keys: list[tuple[int, int]]) -> None:
    session = await repository.writable_session_async("main")
    references = [
        icechunk.VirtualChunkSpec(
            index=[row, column], location=f"file:///{row}/{column}", offset=0, length=row * column
        )
        for row, column in keys
    ]
    await session.store.set_virtual_refs_async(f"/{_BAND}", references, validate_containers=False)
    await session.commit_async(f"list {len(keys)} chunks")


def _around(spec: CollectionSpec, count: int) -> Iterator[tuple[int, int]]:
    """`count` chunks in a square around the place, a hole in its middle."""
    if not count:
        return
    middle_row, middle_column = _centre(spec)
    half = int((count + _HOLE**2) ** 0.5) // 2 + 1
    given = 0
    for row in range(middle_row - half, middle_row + half + 1):
        for column in range(middle_column - half, middle_column + half + 1):
            if max(abs(row - middle_row), abs(column - middle_column)) <= _HOLE // 2:
                continue
            yield row, column
            given += 1
            if given == count:
                return
