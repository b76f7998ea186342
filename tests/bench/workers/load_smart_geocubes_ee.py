"""A worker process that loads from Earth Engine with smart-geocubes, in its environment.

The package's own classes, unmodified; `chunk` makes their patches smaller, where the
original ones would take hours.
"""

from __future__ import annotations

import os
import sys
import warnings

import protocol

config = protocol.setup()
os.environ["ICECHUNK_LOG"] = "error"
warnings.simplefilter("ignore")

import ee  # noqa: E402
import numpy as np  # noqa: E402
import rioxarray  # noqa: E402, F401 - what the first load would import, as on the other sides
import scipy.interpolate  # noqa: E402, F401
import xee  # noqa: E402, F401
from affine import Affine  # noqa: E402
from odc.geo.geobox import GeoBox  # noqa: E402
from smart_geocubes.datasets import alphaearth, tctrend  # noqa: E402

ee.deprecation.deprecated_assets = {"": None}  # else a list is fetched from the internet
ee.Initialize(credentials=None, project="bench", url=config["url"])
base = {"tctrend": tctrend.TCTrend2024, "alphaearth": alphaearth.AlphaEarthEmbeddings}[config["dataset"]]


class Cube(base):
    chunk_size = config.get("chunk", base.chunk_size)


cube = Cube(config["cube"])
cube.create(exists_ok=True)


def load(place):
    when = {"toi": config["datetime"]} if config.get("datetime") else {}
    affine, (rows, columns) = Affine(*place["affine"]), place["shape"]
    loaded = cube.load(GeoBox((rows, columns), affine, place["crs"]), **when)
    # It gives a row or column more than asked for, so pixels are picked by their coordinates.
    x = affine.c + affine.a * (np.arange(columns) + 0.5)
    y = affine.f + affine.e * (np.arange(rows) + 0.5)
    return loaded[config["band"]].sel(x=x, y=y, method="nearest").values


protocol.serve(load)
sys.stdout.flush()
os._exit(0)
