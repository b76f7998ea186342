"""A median of a month of Sentinel-2 scenes in two UTM zones, against odc-stac."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pystac_client
from harness import places
from harness.bench import BANDWIDTH, LATENCY, Bench, same
from harness.measure import Figure, Result, within
from harness.processes import Worker

from support.earth_search import world

if TYPE_CHECKING:
    from pathlib import Path

    from harness.places import Place

_COLLECTION: Final = "sentinel-2-l2a-monthly"
_BOUNDS: Final = (268_760, 5_328_020, 289_740, 5_339_000)
"""What two tiles of zone 33 cover; tiles of zone 32 reach into its west."""
_PLACE: Final[Place] = {**places.native(269_260, 5_338_500, 1000, 1000, 10), "crs": "EPSG:32633"}
_BOX: Final = (11.89, 48.05, 12.05, 48.16)
"""Longitudes and latitudes around the place."""
_BANDS: Final = ["red", "nir"]
_HIDDEN: Final = [0, 1, 3, 8, 9, 10, 11]
_THREADS: Final = 16


def monthly_median(bench: Bench) -> list[Result]:
    """Cold, ours and odc-stac's in turn; then ours warm."""
    folder = _collections(bench)
    wanted, others = _items(bench, "2023-01"), _items(bench, "2023-05")
    ours, warm, odc, taken, fetched = [], [], [], [], []
    for _ in range(bench.n(5, 2)):
        seconds, again, sent, mean = _cold(bench, folder)
        ours.append(seconds)
        warm += again
        taken.append(sent)
        seconds, sent, odc_mean = _odc(bench, wanted, others)
        odc.append(seconds)
        fetched.append(sent)
        if not same(mean, odc_mean):
            raise AssertionError(f"the two sides loaded different pixels: means {mean} and {odc_mean}")
    cold, theirs = Figure.of_seconds("Icehouse", ours), Figure.of_seconds("odc-stac", odc)
    figures = [
        cold,
        theirs,
        Figure.of_seconds("Icehouse, warm", warm),
        Figure(name="Icehouse, taken from the source", values=tuple(taken), unit="MB"),
        Figure(name="odc-stac, taken from the source", values=tuple(fetched), unit="MB"),
    ]
    what = (
        f"Sentinel-2, median of a month ({len(wanted)} scenes, 2 UTM zones), 1000 x 1000 at 10 m, 2 bands "
        "without clouds, 40 ms and 100 Mbit/s"
    )
    check = within("at most 1.5 x odc-stac's time, although it searches and is committed", cold, theirs, 1.5)
    note = (
        f"odc-stac with {_THREADS} threads, given the items; it caches nothing, so every load is a cold one"
    )
    return [Result(what=what, figures=figures, checks=[check], notes=[note])]


def _collections(bench: Bench) -> Path:
    """A folder with the built-in template's collection on a grid of zone 33."""
    folder = bench.folder("collections")
    bbox = ",".join(map(str, _BOUNDS))
    words = ["collections", "add", _COLLECTION, "--crs", "EPSG:32633", "--bbox-crs", "EPSG:32633"]
    subprocess.run(
        [sys.executable, "-m", "icehouse_server", *words, "--bbox", bbox, "--resolution", "10"],
        env={**os.environ, "ICEHOUSE_COLLECTIONS_DIR": str(folder)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
    return folder


def _items(bench: Bench, month: str) -> list[dict[str, Any]]:
    """The scenes of a month around the place, with the stand-in's own addresses; their files are built."""
    client = pystac_client.Client.open(bench.earth_search.open_stac_url)
    search = client.search(collections=[world.SENTINEL_2], bbox=_BOX, datetime=month)
    items = [item.to_dict() for item in search.items()]
    keys = (
        scene.key(asset)
        for item in items
        if (scene := world.scene_of_item(world.SENTINEL_2, item["id"]))
        for asset in (*_BANDS, "scl")
    )
    bench.earth_search.prepare([f"{world.BUCKET}/{key}" for key in keys])
    return items


def _line(bench: Bench, *, slow: bool) -> None:
    latency, bandwidth = (LATENCY, BANDWIDTH) if slow else (0.0, None)
    bench.earth_search.shape(latency=latency, bandwidth=bandwidth)
    bench.earth_search.reset()


def _cold(bench: Bench, folder: Path) -> tuple[float, list[float], float, float | None]:
    """By a daemon on a fresh cache: seconds, seconds warm, MB taken, mean of pixels."""
    earth = bench.earth_search
    config = {"collection": _COLLECTION, "bands": _BANDS, "datetime": "2023-01"}
    with (
        bench.daemon(mirrors=earth.mirrors, ICEHOUSE_COLLECTIONS_DIR=str(folder)) as running,
        bench.client(running, **config) as worker,
    ):
        _line(bench, slow=True)
        answer = worker.ask(do="load", places=[_PLACE])
        sent = earth.cogs_counters().bytes / 1e6
        return answer["seconds"][0], worker.loads([_PLACE] * 4), sent, answer["mean"]


def _odc(
    bench: Bench, items: list[dict[str, Any]], others: list[dict[str, Any]]
) -> tuple[float, float, float | None]:
    """By a fresh process: seconds, MB taken, mean of pixels."""
    folder = bench.folder("items")
    for name, documents in (("items", items), ("others", others)):
        (folder / f"{name}.json").write_text(json.dumps(documents), encoding="utf-8")
    config = {
        "items": str(folder / "items.json"),
        "warm_up_items": str(folder / "others.json"),
        "warm_up": _PLACE,
        "bands": _BANDS,
        "hidden": _HIDDEN,
        "threads": _THREADS,
    }
    _line(bench, slow=False)
    with Worker.start("load_median", config) as worker:
        _line(bench, slow=True)
        answer = worker.ask(do="load", places=[_PLACE])
        return answer["seconds"][0], bench.earth_search.cogs_counters().bytes / 1e6, answer["mean"]
