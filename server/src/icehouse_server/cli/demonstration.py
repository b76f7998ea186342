"""The demonstration: the main job against stand-in sources, cold and warm."""

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from PIL import Image

import icehouse
from icehouse_server.cli.daemon import Daemon, DaemonError
from icehouse_server.demo.standins import StandIns
from icehouse_server.testing.daemon import DaemonProcess, DaemonStartError

_COLLECTION = "arcticdem-32m"
_BBOX = (150.0, 65.0, 151.0, 65.5)
_TILES = ("67_33", "67_34", "66_33", "66_34")
_WARM_LOADS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    seconds: float
    dataset: xr.Dataset
    requests: int
    bytes: int


def demonstrate(*, folder: Path, keep: bool, cache_dir: Path | None, port: int, as_json: bool) -> None:
    """Load a region cold and warm, and tell how it went; the options are those of the command."""
    # Whoever ends the demo by SIGTERM must not be left with its daemon: unwind as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say: Callable[[str], None] = (lambda _: None) if as_json else print
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="icehouse-demo-") as scratch:
        say("starting stand-ins for stac.pgc.umn.edu and its object store, and a daemon …")
        with (
            StandIns.start(folder=Path(scratch) / "objects", latency=0.04, bandwidth=12_500_000) as standins,
            _daemon(cache_dir or Path(scratch) / "cache", port, standins.mirrors) as url,
        ):
            standins.prepare([standins.dem_key("32m", tile) for tile in _TILES])
            figures = _show(url, standins, folder, say)
            if as_json:
                print(json.dumps(figures))
            if keep:
                _stay(url)


def _show(url: str, standins: StandIns, folder: Path, say: Callable[[str], None]) -> dict[str, object]:
    geobox = GeoBox.from_bbox(_BBOX, shape=(1000, 1000), crs="EPSG:4326")
    with icehouse.Client(url, _COLLECTION) as client:
        cold = _load(client, geobox, standins)
        say(f"cold load of 1000 x 1000 pixels: {cold.seconds * 1000:.0f} ms")
        say(f"  fetched with {cold.requests} requests, {cold.bytes / 1e6:.1f} MB (40 ms latency, 100 Mbit/s)")
        warm = min((_load(client, geobox, standins) for _ in range(_WARM_LOADS)), key=lambda run: run.seconds)
        say(f"warm load of the same:           {warm.seconds * 1000:.1f} ms, {warm.requests} requests")
        if not warm.dataset.identical(cold.dataset):
            raise DaemonError("the warm load differs from the cold one; please report it")
    tif, png = folder / "region.tif", folder / "hillshade.png"
    Daemon(url).download(
        f"/collections/{_COLLECTION}/coverage.tif", {"bbox": ",".join(map(str, _BBOX))}, tif, lambda *_: None
    )
    _write_hillshade(tif, png)
    say(f"wrote {tif} and {png}")
    return {
        "cold_seconds": cold.seconds,
        "cold_requests": cold.requests,
        "cold_bytes": cold.bytes,
        "warm_seconds": warm.seconds,
        "warm_requests": warm.requests,
        "files": [str(tif), str(png)],
    }


def _load(client: icehouse.Client, geobox: GeoBox, standins: StandIns) -> _Run:
    before = standins.counters()
    begun = time.perf_counter()
    dataset = client.load(geobox)
    seconds = time.perf_counter() - begun
    after = standins.counters()
    return _Run(
        seconds=seconds,
        dataset=dataset,
        requests=after.requests - before.requests,
        bytes=after.bytes - before.bytes,
    )


def _write_hillshade(tif: Path, png: Path) -> None:
    """Write a hillshade (Horn 1981; light from the north-west at 45 degrees) of a GeoTIFF as PNG."""
    with rasterio.open(tif) as source:
        heights = source.read(1, masked=True).astype("float64")
        step = source.transform.a
    south, east = np.gradient(heights.filled(float(heights.mean())), step)
    slope, aspect = np.arctan(np.hypot(east, south) * 2), np.arctan2(-east, south)
    light = np.sin(np.pi / 4) * np.cos(slope) + np.cos(np.pi / 4) * np.sin(slope) * np.cos(
        np.deg2rad(315) - aspect
    )
    shade = np.where(heights.mask, 0, np.clip(light, 0, 1) * 254 + 1).astype("uint8")
    Image.fromarray(shade).save(png)


@contextmanager
def _daemon(cache: Path, port: int, mirrors: dict[str, str]) -> Iterator[str]:
    settings = {"mirrors": mirrors, "log_level": "warning"}
    try:
        with DaemonProcess(cache=cache, port=port, settings=settings) as daemon:
            yield daemon.url
    except DaemonStartError as error:
        raise DaemonError(str(error)) from error


def _stay(url: str) -> None:
    print(f"\nThe daemon stays at {url}: open it in a browser, or try, in another terminal:\n")
    print(f'  curl -o dem.tif "{url}/collections/{_COLLECTION}/coverage.tif?bbox=150,65,151,65.5"')
    print(f'  curl "{url}/collections/{_COLLECTION}/point?lon=150.5&lat=65.25"')
    print(f'  curl "{url}/collections/{_COLLECTION}/plan?bbox=149,65,152,66"\n\nCtrl-C ends it.')
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
