"""A worker process that reads with odc-stac: the items are given, so only pixels are fetched."""

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


def read_items(path):
    documents = json.loads(Path(path).read_text(encoding="utf-8"))
    return [pystac.Item.from_dict(document) for document in documents]


def load(place, items=None):
    geobox = GeoBox(place["shape"], Affine(*place["affine"]), place["crs"])
    loaded = odc.stac.load(
        given if items is None else items,
        bands=["dem"],
        geobox=geobox,
        resampling=place.get("resampling", "bilinear"),
        groupby=lambda *_: 0,  # one mosaic of all
    )
    return loaded["dem"].isel(time=0).values


given = read_items(config["items"])
if config.get("warm_up"):  # GDAL and PROJ are set up by a read from the local disk
    load(config["warm_up"]["place"], read_items(config["warm_up"]["items"]))
protocol.serve(load)
