"""A worker process that makes a median without clouds of given STAC items with odc-stac."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import protocol

os.environ |= {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif"}
warnings.simplefilter("ignore")

import odc.stac  # noqa: E402
import pystac  # noqa: E402
from affine import Affine  # noqa: E402
from odc.geo.geobox import GeoBox  # noqa: E402

config = protocol.setup()


def read_items(name):
    documents = json.loads(Path(config[name]).read_text(encoding="utf-8"))
    return [pystac.Item.from_dict(document) for document in documents]


def median(place, items):
    loaded = odc.stac.load(
        items,
        bands=[*config["bands"], "scl"],
        geobox=GeoBox(place["shape"], Affine(*place["affine"]), place["crs"]),
        resampling={"*": "bilinear", "scl": "nearest"},
        groupby="id",
        pool=config["threads"],
    )
    hidden = loaded["scl"].isin(config["hidden"])
    medians = [loaded[band].where(~hidden & (loaded[band] != 0)).median("time") for band in config["bands"]]
    return medians[0].values


given = read_items("items")
median(config["warm_up"], read_items("warm_up_items"))  # GDAL and PROJ are set up by reading other files
protocol.serve(lambda place: median(place, given))
