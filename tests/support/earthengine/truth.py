"""What must come out of the stand-in Earth Engine: the oracle of the tests.

It merges the images' surfaces by its own few lines and knows nothing of expressions, lazy bands or strips,
with which the server computes. They share the surfaces alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

from support.earthengine import surface, world

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

type Layers = list[tuple[NDArray[Any], NDArray[np.bool_]]]
"""Values and validity of each image, in the collection's order."""
type Truth = tuple[NDArray[Any], NDArray[np.bool_]]
"""Values (ny, nx), of the band's dtype unless averaged, and where they are valid. Under the mask lies 0."""


def truth(
    asset_id: str,
    band: str,
    geobox: GeoBox,
    *,
    interval: tuple[dt.datetime, dt.datetime] | None = None,
    how: str = "mosaic",
    hidden: tuple[str, frozenset[int]] | None = None,
) -> Truth:
    """One band of an asset on any grid, by nearest neighbour.

    Args:
        asset_id: An id of `world`, or that of one image of a collection.
        band: Name of a band.
        geobox: The grid.
        interval: Only images that begin in it; its end does not belong to it. Both with a time zone.
        how: "mosaic" (the last valid one; the same as "last"), "first", "min", "max", or, as float64,
            "median" and "mean". Nothing to choose for one image.
        hidden: A band of classes and those of its values at which an image is masked.
    """
    layers = _layers(asset_id, band, geobox, interval)
    if hidden is not None:
        name, classes = hidden
        flags = _layers(asset_id, name, geobox, interval)
        layers = [
            (values, valid & there & ~np.isin(kinds, list(classes)))
            for (values, valid), (kinds, there) in zip(layers, flags, strict=True)
        ]
    if not layers:
        return np.zeros(geobox.shape, dtype=_found(asset_id)[0].band(band).type.dtype), np.zeros(
            geobox.shape, dtype=np.bool_
        )
    values, valid = _merged(layers, how)
    return np.where(valid, values, np.zeros((), dtype=values.dtype)), valid


def images(
    asset_id: str, band: str, geobox: GeoBox, *, interval: tuple[dt.datetime, dt.datetime] | None = None
) -> Layers:
    """The images that `truth` merges, each by itself, in the collection's order."""
    return _layers(asset_id, band, geobox, interval)


def _merged(layers: Layers, how: str) -> Truth:
    values = np.stack([layer for layer, _ in layers])
    valid = np.stack([flags for _, flags in layers])
    masked = np.ma.masked_array(values, ~valid)
    match how:
        case "mosaic" | "last" | "first":
            result, seen = np.zeros_like(values[0]), np.zeros_like(valid[0])
            for layer, flags in layers if how == "first" else reversed(layers):
                result = np.where(flags & ~seen, layer, result)
                seen = seen | flags
            return result, seen
        case "min" | "max":
            found = masked.min(axis=0) if how == "min" else masked.max(axis=0)
            return np.ma.filled(found, 0), valid.any(axis=0)
        case "mean" | "median":
            average = np.ma.mean if how == "mean" else np.ma.median
            return np.ma.filled(average(masked.astype(np.float64), axis=0), 0.0), valid.any(axis=0)
        case _:
            raise ValueError(
                f"nothing merges by {how!r}: it is mosaic, first, last, min, max, mean or median"
            )


def _found(asset_id: str) -> tuple[world.Asset, tuple[world.Tile, ...]]:
    """An asset with all its images, or with the one that an id names."""
    asset = world.find(asset_id)
    if asset is not None:
        return asset, asset.tiles
    parent, _, index = asset_id.rpartition("/")
    asset = world.find(parent)
    if asset is None:
        raise ValueError(f"there is no asset {asset_id!r} in the stand-in")
    return asset, tuple(tile for tile in asset.tiles if tile.index == index)


def _layers(
    asset_id: str, band: str, geobox: GeoBox, interval: tuple[dt.datetime, dt.datetime] | None
) -> Layers:
    asset, tiles = _found(asset_id)
    if interval is not None:
        tiles = tuple(tile for tile in tiles if tile.start and interval[0] <= tile.start < interval[1])
    x, y = _places(asset, geobox)
    lowest, highest = (np.array([x.min(), y.min()]), np.array([x.max(), y.max()]))
    found: Layers = []
    for tile in tiles:
        if (np.array(tile.box[:2]) > highest).any() or (np.array(tile.box[2:]) <= lowest).any():
            continue  # far away: nothing of it is valid here
        wanted = asset.band(band)
        valid = np.broadcast_to(surface.valid(asset, tile, wanted, x, y), geobox.shape)
        values = np.broadcast_to(surface.values(asset, tile, wanted, x, y), geobox.shape)
        found.append((values, valid))
    return found


def _places(asset: world.Asset, geobox: GeoBox) -> tuple[NDArray[Any], NDArray[Any]]:
    """The centres of the pixels in the asset's CRS."""
    rows, cols = geobox.shape
    col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    affine = geobox.affine
    x, y = affine.a * col + affine.b * row + affine.c, affine.d * col + affine.e * row + affine.f
    source, target = pyproj.CRS.from_user_input(str(geobox.crs)), pyproj.CRS.from_user_input(asset.crs)
    if source != target:
        x, y = pyproj.Transformer.from_crs(source, target, always_xy=True).transform(x, y)
    if target.is_geographic:
        x = np.where((x < -180) | (x >= 180), (x + 180) % 360 - 180, x)
    return np.nan_to_num(x, posinf=1e12), np.nan_to_num(y, posinf=1e12)
