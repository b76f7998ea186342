"""A worker process that loads through the daemon with the client."""

from __future__ import annotations

import protocol

import icehouse
import icehouse._load  # what the first load would import: part of getting ready, as on the other sides

config = protocol.setup()
client = icehouse.Client(config["url"], config["collection"])
bands = config.get("bands", ["dem"])


def load(place):
    geobox = icehouse.GeoBox(crs=place["crs"], transform=place["affine"], shape=place["shape"])
    loaded = client.load(geobox, bands=bands, datetime=config.get("datetime"), timeout=120)
    return loaded[bands[0]].values


if config.get("first"):
    pixels = load(config["first"])
protocol.serve(load)
