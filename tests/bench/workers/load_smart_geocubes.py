"""A worker process that loads with smart-geocubes in process. Runs in its environment.

The package's own class for ArcticDEM, with three things pointed at the stand-ins, none of which
costs it time: the index of tiles is a GeoParquet file like the one it downloads (made by `make_index` from
the stand-ins' list of tiles), the items' URLs are the stand-ins', and only the band `dem` is kept, as on
our side.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import ClassVar

import protocol

config = protocol.setup()
os.environ |= {"SMART_GEOCUBES_AUX": config["aux"], "ICECHUNK_LOG": "error"}

from odc.geo.geobox import GeoBox  # noqa: E402
from smart_geocubes.datasets import arcticdem  # noqa: E402


def make_index(resolution, path):
    import json

    import geopandas
    from shapely.geometry import box

    tiles = json.loads(Path(path).read_text(encoding="utf-8"))
    frame = geopandas.GeoDataFrame(
        {"dem_id": [tile["id"] for tile in tiles]},
        geometry=[box(*tile["bounds"]) for tile in tiles],
        crs="EPSG:3413",
    )
    for name in ("2m", "10m", "32m"):
        index = Path(config["aux"]) / f"ArcticDEM_Mosaic_Index_v4_1_{name}.parquet"
        if name == resolution or not index.exists():
            frame.to_parquet(index)


def item_url(item, resolution):
    return f"{config['stac']}collections/arcticdem-mosaics-v4.1-{resolution}/items/{item}"


arcticdem._download_arcticdem_extent = lambda _: None
arcticdem._get_stac_url = item_url
base = {"2m": arcticdem.ArcticDEM2m, "32m": arcticdem.ArcticDEM32m}[config["resolution"]]


class Dem(base):
    channels: ClassVar[list] = ["dem"]
    _channels_meta: ClassVar[dict] = {"dem": base._channels_meta["dem"]}
    _channels_encoding: ClassVar[dict] = {"dem": base._channels_encoding["dem"]}


def make_geobox(place):
    from affine import Affine

    return GeoBox(place["shape"], Affine(*place["affine"]), place["crs"])


if config.get("tiles"):
    make_index(config["resolution"], config["tiles"])
    Dem(config["cube"]).create(exists_ok=True)


@functools.cache
def opened():
    """Opened by the first load, as in a user's program."""
    return Dem(config["cube"], create_icechunk_storage=False)


def load(place):
    return opened().load(make_geobox(place))["dem"].values


if config.get("first"):
    load(config["first"])
protocol.serve(load)
sys.stdout.flush()
os._exit(0)
