"""What a benchmark run shares: stand-ins, a warm daemon, the warm cube of smart-geocubes, folders."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from harness import places
from harness.environments import python_of
from harness.processes import Worker, daemon
from icehouse_server.demo.standins import StandIns
from support.earth_search.standin import EarthSearchStandIn
from support.earthengine.standin import EarthEngineStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.places import Place
    from icehouse_server.testing.daemon import DaemonProcess

LATENCY = 0.040
BANDWIDTH = 12_500_000.0
"""100 Mbit/s in bytes a second."""


@dataclass(kw_only=True)
class Bench:
    """Built once for a run; what it starts is ended when `stack` closes."""

    scratch: Path
    """Emptied when the run is over."""
    objects: Path
    """Files of the stand-ins; kept, as building them takes a minute."""
    quick: bool
    smart_geocubes_2m: bool
    chunk: int | None
    """Use collections with chunks of this size in place of the built-in ones."""
    tried: Mapping[str, str]
    """Settings of the daemon that differ from the defaults."""
    stack: contextlib.ExitStack
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def n(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def folder(self, name: str) -> Path:
        """A new empty folder."""
        path = self.scratch / f"{name}-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    @functools.cached_property
    def standins(self) -> StandIns:
        started = self.stack.enter_context(StandIns.start(folder=self.objects))
        started.prepare([StandIns.dem_key("32m", tile) for tile in places.TILES_32M])
        return started

    def line(self, *, slow: bool) -> None:
        """Shape the line to the stand-ins, and forget their counts."""
        self.standins.shape(latency=LATENCY if slow else 0.0, bandwidth=BANDWIDTH if slow else None)
        self.standins.reset()

    # Ours

    def collection(self, resolution: str = "32m") -> str:
        return f"arcticdem-{resolution}" + (f"-chunk{self.chunk}" if self.chunk else "")

    @functools.cached_property
    def settings(self) -> dict[str, str]:
        if not self.chunk:
            return dict(self.tried)
        folder = self.folder("collections")
        for resolution in ("2m", "32m"):
            name = f"arcticdem-{resolution}"
            text = (files("icehouse_server") / "collections" / f"{name}.toml").read_text(encoding="utf-8")
            text = text.replace("chunk = 512", f"chunk = {self.chunk}")
            text = text.replace(f'id = "{name}"', f'id = "{self.collection(resolution)}"')
            (folder / f"{self.collection(resolution)}.toml").write_text(text, encoding="utf-8")
        return {"ICEHOUSE_COLLECTIONS_DIR": str(folder), **self.tried}

    def daemon(
        self, cache: Path | None = None, *, mirrors: Mapping[str, str] | None = None, **settings: str
    ) -> DaemonProcess:
        """A daemon on a cache folder, by default a fresh one; its mirrors lead to the PGC's by default."""
        folder = self.folder("cache") if cache is None else cache
        led = self.standins.mirrors if mirrors is None else mirrors
        return daemon(folder, led, {**self.settings, **settings})

    @functools.cached_property
    def warm_cache(self) -> Path:
        """A cache folder that holds the places of the warm scenarios. No daemon runs on it."""
        folder = self.folder("warm")
        self.line(slow=False)
        with self.daemon(folder) as running, self.client(running) as worker:
            worker.loads([places.SMALL, places.LARGE, places.GEOGRAPHIC])
        return folder

    def client(
        self, running: DaemonProcess, *, resolution: str = "32m", **config: Any
    ) -> contextlib.AbstractContextManager[Worker]:
        return Worker.start("load_client", self.client_config(running, resolution) | config)

    def client_config(self, running: DaemonProcess, resolution: str = "32m") -> dict[str, Any]:
        return {"url": running.url, "collection": self.collection(resolution)}

    # Other stand-ins

    @functools.cached_property
    def earthengine(self) -> EarthEngineStandIn:
        return self.stack.enter_context(EarthEngineStandIn.start())

    @functools.cached_property
    def earth_search(self) -> EarthSearchStandIn:
        return self.stack.enter_context(EarthSearchStandIn.start(folder=self.objects))

    # smart-geocubes

    @functools.cached_property
    def smart_geocubes_python(self) -> str:
        return python_of("smart-geocubes")

    def smart_geocubes_config(
        self, cube: Path, resolution: str = "32m", *, create: bool = False
    ) -> dict[str, Any]:
        aux = self.scratch / "smart-geocubes-index"
        aux.mkdir(exist_ok=True)
        config = {
            "cube": str(cube),
            "aux": str(aux),
            "resolution": resolution,
            "stac": self.standins.open_stac_url,
        }
        if create:
            tiles = StandIns.tiles("arcticdem", resolution)
            path = aux / f"tiles-{resolution}.json"
            path.write_text(json.dumps([{"id": tile.item_id, "bounds": tile.bounds} for tile in tiles]))
            config["tiles"] = str(path)
        return config

    @contextlib.contextmanager
    def smart_geocubes(
        self, cube: Path, resolution: str = "32m", *, create: bool = False
    ) -> Iterator[Worker]:
        config = self.smart_geocubes_config(cube, resolution, create=create)
        with Worker.start("load_smart_geocubes", config, python=self.smart_geocubes_python) as worker:
            yield worker

    @functools.cached_property
    def smart_geocubes_cube(self) -> Path:
        """The cube of smart-geocubes that holds the places of the warm scenarios."""
        cube = self.folder("smart-geocubes-cube")
        self.line(slow=False)
        with self.smart_geocubes(cube, create=True) as worker:
            worker.loads([places.SMALL, places.LARGE])
        return cube

    # odc-stac

    @contextlib.contextmanager
    def odc(
        self, resolution: str, tiles: Sequence[str], warm_up: Place, *, local: bool = False
    ) -> Iterator[Worker]:
        """A process that reads given items with odc-stac, from the stand-ins or from local files.

        It has read `warm_up` from local files before its first command, as GDAL and PROJ take time to set up.
        """
        config = {
            "items": self._items(resolution, tiles, local=local),
            "warm_up": {"items": self._items(resolution, tiles, local=True), "place": warm_up},
        }
        with Worker.start("load_odc", config) as worker:
            yield worker

    def _items(self, resolution: str, tiles: Sequence[str], *, local: bool) -> str:
        path = self.folder("items") / "items.json"
        path.write_text(json.dumps([self._item(resolution, tile, local=local) for tile in tiles]))
        return str(path)

    def _item(self, resolution: str, tile: str, *, local: bool) -> dict[str, Any]:
        import httpx

        url = (
            f"{self.standins.open_stac_url}collections/arcticdem-mosaics-v4.1-{resolution}"
            f"/items/{tile}_{resolution}_v4.1"
        )
        item: dict[str, Any] = httpx.get(url, trust_env=False).raise_for_status().json()
        if local:
            item["assets"]["dem"]["href"] = self.file(resolution, tile).as_uri()
        return item

    def file(self, resolution: str, tile: str) -> Path:
        """The COG of a tile's dem on the disk of the stand-ins."""
        key = StandIns.dem_key(resolution, tile)
        self.standins.prepare([key])
        return next(self.objects.glob(f"*/{key}"))


def same(mean_a: float | None, mean_b: float | None) -> bool:
    """Whether two sides loaded the same terrain (nodata at edges aside)."""
    if mean_a is None or mean_b is None:
        return mean_a is mean_b
    return abs(mean_a - mean_b) <= 0.01 * max(1.0, abs(mean_a))


def cores() -> int:
    return len(os.sched_getaffinity(0))


def alternately(rounds: int, sides: dict[str, Any]) -> dict[str, list[float]]:
    """Measure sides in turn, some rounds, so that what else the machine does meets all of them.

    Args:
        rounds: how often each side gets its turn.
        sides: name to a callable that returns seconds.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            found[name] += measure()
    return found
