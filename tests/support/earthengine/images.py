"""Lazy images and collections: bands that know how to compute themselves for some rows of a request."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from support.earthengine import surface
from support.earthengine.types import PixelType, of_value

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from support.earthengine import world
    from support.earthengine.places import PixelCoordinates

type Raster = tuple[NDArray[Any], NDArray[np.bool_]]
"""Values and where they are valid; both broadcast to the place's shape."""

_YES = np.ones((1, 1), dtype=np.bool_)


class EarthEngineError(Exception):
    """What Earth Engine would refuse.

    Args:
        message: Earth Engine's words.
        code: HTTP status.
    """

    def __init__(self, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """One band of a lazy image. Equal to itself only, so that a place can keep what it has computed."""

    name: str
    type: PixelType
    compute: Callable[[PixelCoordinates], Raster]
    crs: str = "EPSG:4326"
    transform: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    """Row by row, as Earth Engine writes it: x scale, x shear, x, y shear, y scale, y."""
    dimensions: tuple[int, int] | None = None
    """Width and height, of what is bounded."""

    def at(self, place: PixelCoordinates) -> Raster:
        """Values of the band's dtype, and validity."""
        if self not in place.memo:
            values, valid = self.compute(place)
            place.memo[self] = np.asarray(values).astype(self.type.dtype, copy=False), valid
        found: Raster = place.memo[self]
        return found

    def map(self, type_: PixelType, compute: Callable[[PixelCoordinates], Raster]) -> Band:
        """The band with other pixels."""
        return replace(self, type=type_, compute=compute)


@dataclass(frozen=True, slots=True, eq=False)
class Extent:
    """A box in a CRS outside of which an image has nothing."""

    crs: str
    box: world.Box

    def touches(self, place: PixelCoordinates) -> bool:
        """False if no pixel of a place lies inside."""
        key = "bounds", self.crs
        if key not in place.memo:
            place.memo[key] = place.bounds(self.crs)
        left, bottom, right, top = place.memo[key]
        return bool(
            left < self.box[2] and right >= self.box[0] and bottom < self.box[3] and top >= self.box[1]
        )

    def inside(self, place: PixelCoordinates) -> NDArray[np.bool_]:
        """Which pixels of a place lie inside."""
        x, y = place.at(self.crs)
        left, bottom, right, top = self.box
        return np.asarray((x >= left) & (x < right) & (y >= bottom) & (y < top))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """A lazy image."""

    bands: tuple[Band, ...]
    properties: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    footprint: tuple[Extent, ...] | None = None
    """Boxes of which the image is made; None for everywhere."""

    def band(self, name: str) -> Band | None:
        """The first band of a name."""
        return next((band for band in self.bands if band.name == name), None)

    def select(self, selectors: Iterable[str | int], names: Sequence[str] | None = None) -> Image:
        """Bands by name, regular expression or number from 0.

        Raises:
            EarthEngineError: a selector matches nothing, or `names` are too many or too few.
        """
        chosen = [band for selector in selectors for band in self._matching(selector)]
        if names is not None and len(names) != len(chosen):
            raise EarthEngineError(
                f"Image.select: The number of names ({len(names)}) must match the number of bands"
                f" ({len(chosen)})."
            )
        renamed = [replace(band, name=name) for band, name in zip(chosen, names or (), strict=False)]
        return self.with_bands(renamed if names is not None else chosen)

    def _matching(self, selector: str | int) -> list[Band]:
        if isinstance(selector, int):
            if not -len(self.bands) <= selector < len(self.bands):
                raise EarthEngineError(
                    f"Image.select: Band index {selector} is not in [0, {len(self.bands)})."
                )
            return [self.bands[selector]]
        found = self.band(selector)
        matching = [found] if found else [b for b in self.bands if re.fullmatch(selector, b.name)]
        if not matching:
            names = ", ".join(band.name for band in self.bands)
            raise EarthEngineError(
                f"Image.select: Band pattern '{selector}' did not match any bands. Available bands: [{names}]"
            )
        return matching

    def with_bands(self, bands: Iterable[Band]) -> Image:
        """The image with other bands."""
        return replace(self, bands=tuple(bands))

    def touches(self, place: PixelCoordinates) -> bool:
        """False if the image has nothing at a place."""
        return self.footprint is None or any(extent.touches(place) for extent in self.footprint)

    def inside(self, place: PixelCoordinates) -> NDArray[np.bool_]:
        """Where the image's footprint is."""
        if self.footprint is None:
            return _YES
        inside = np.zeros(place.shape, dtype=np.bool_)
        for extent in self.footprint:
            if extent.touches(place):
                inside |= extent.inside(place)
        return inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collection:
    """Images in order: in a mosaic the last is on top."""

    images: tuple[Image, ...]
    id: str | None = None


def constant(value: float, name: str = "constant") -> Band:
    """A band that is one number everywhere."""
    type_ = of_value(value)
    pixels = np.full((1, 1), value, dtype=type_.dtype)
    return Band(name, type_, lambda _: (pixels, _YES))


@functools.cache
def load_image(asset: world.Asset, tile: world.Tile) -> Image:
    """One image of an asset, as it lies in the catalogue."""
    left, bottom, right, top = tile.box
    step = asset.step
    west, north = np.floor(left / step) * step, np.ceil(top / step) * step
    size = round((right - west) / step), round((north - bottom) / step)
    bands = [
        Band(
            name=band.name,
            type=band.type,
            compute=functools.partial(_stored, asset, tile, band),
            crs=asset.crs,
            transform=(step, 0.0, float(west), 0.0, -step, float(north)),
            dimensions=size,
        )
        for band in asset.bands
    ]
    properties: dict[str, Any] = dict(tile.properties)
    if tile.index:
        properties["system:index"] = tile.index
    if tile.start is not None and tile.end is not None:
        properties |= {"system:time_start": _millis(tile.start), "system:time_end": _millis(tile.end)}
    return Image(
        bands=tuple(bands),
        properties=properties,
        id=f"{asset.id}/{tile.index}".rstrip("/"),
        footprint=(Extent(asset.crs, tile.box),),
    )


@functools.cache
def load_collection(asset: world.Asset) -> Collection:
    """A collection of the catalogue."""
    return Collection(images=tuple(load_image(asset, tile) for tile in asset.tiles), id=asset.id)


def _stored(asset: world.Asset, tile: world.Tile, band: world.Band, place: PixelCoordinates) -> Raster:
    x, y = place.at(asset.crs)
    key = asset, tile.number, band.mask
    if key not in place.memo:
        place.memo[key] = surface.valid(asset, tile, band, x, y)
    valid = place.memo[key]
    if not valid.any():
        return np.zeros((1, 1), dtype=band.type.dtype), valid
    return surface.values(asset, tile, band, x, y), valid


def _millis(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)
