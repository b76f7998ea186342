"""One image of many: mosaics and reducers."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from support.earthengine.images import Band, Collection, EarthEngineError, Extent, Image
from support.earthengine.types import PixelType

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from support.earthengine.images import Raster
    from support.earthengine.places import PixelCoordinates


def mosaic(collection: Collection) -> Image:
    """All bands that any image has; at each pixel the last image that is valid there."""
    return _composite(collection, lambda types: functools.reduce(PixelType.union, types), _last_on_top)


def _composite(
    collection: Collection,
    result_type: Callable[[list[PixelType]], PixelType],
    merge: Callable[[PixelType, list[tuple[Image, Band]], PixelCoordinates], Raster],
) -> Image:
    """One image of many, band by band, in EPSG:4326 with pixels of a degree."""
    holders: dict[str, list[tuple[Image, Band]]] = {}
    for image in collection.images:
        for band in image.bands:
            holders.setdefault(band.name, []).append((image, band))
    bands = []
    for name, held in holders.items():
        type_ = result_type([band.type for _, band in held])
        bands.append(Band(name, type_, functools.partial(_merged, merge, type_, held)))
    extents: dict[Extent, None] = {}
    for image in collection.images:
        if image.footprint is None:
            return Image(bands=tuple(bands))
        extents.update(dict.fromkeys(image.footprint))
    return Image(bands=tuple(bands), footprint=tuple(extents))


def _merged(
    merge: Callable[[PixelType, list[tuple[Image, Band]], PixelCoordinates], Raster],
    type_: PixelType,
    held: list[tuple[Image, Band]],
    place: PixelCoordinates,
) -> Raster:
    touching = [(image, band) for image, band in held if image.touches(place)]
    if not touching:
        return np.zeros((1, 1), dtype=type_.dtype), np.zeros((1, 1), dtype=np.bool_)
    return merge(type_, touching, place)


def _last_on_top(type_: PixelType, held: list[tuple[Image, Band]], place: PixelCoordinates) -> Raster:
    result: NDArray[Any] = np.zeros(place.shape, dtype=type_.dtype)
    seen = np.zeros(place.shape, dtype=np.bool_)
    for _, band in reversed(held):
        values, valid = band.at(place)
        fresh = np.broadcast_to(valid, place.shape) & ~seen
        if fresh.any():
            np.copyto(result, values.astype(type_.dtype, copy=False), where=fresh)
            seen |= fresh
        if seen.all():
            break
    return result, seen


def reduce(collection: Collection, reducer: str, suffix: str = "") -> Image:
    """One image of many by a reducer: median, mean, min, max, sum, count, first, last, mode.

    Args:
        collection: The images.
        reducer: The reducer's name.
        suffix: Put behind the bands' names, as `ImageCollection.reduce` does.
    """
    if reducer not in _REDUCERS:
        raise EarthEngineError(f"Reducer.{reducer} is not supported by the stand-in.")
    result_type, function = _REDUCERS[reducer]

    def merge(type_: PixelType, held: list[tuple[Image, Band]], place: PixelCoordinates) -> Raster:
        layers = [band.at(place) for _, band in held]
        values = np.stack([np.broadcast_to(layer, place.shape) for layer, _ in layers])
        valid = np.stack([np.broadcast_to(flags, place.shape) for _, flags in layers])
        any_valid = valid.any(axis=0)
        return function(values, valid).astype(type_.dtype), any_valid

    image = _composite(collection, result_type, merge)
    return image.with_bands(replace(band, name=band.name + suffix) for band in image.bands)


def _union(types: list[PixelType]) -> PixelType:
    return functools.reduce(PixelType.union, types)


def _fractional(types: list[PixelType]) -> PixelType:
    """Means of float32 stay so; those of integers are doubles."""
    union = _union(types)
    return union if union.precision == "float" else PixelType("double", union.low, union.high)


def _total(types: list[PixelType]) -> PixelType:
    union = _union(types)
    return PixelType("double") if union.precision != "int" else PixelType("int", -(2**63), 2**63 - 1)


def _counted(_: list[PixelType]) -> PixelType:
    return PixelType("int", 0, 2**31 - 1)


def _median(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """The middle of the valid ones; the mean of the two in the middle of an even number."""
    ordered = np.sort(np.where(valid, values.astype(np.float64), np.inf), axis=0)
    number = np.maximum(valid.sum(axis=0), 1)
    low = np.take_along_axis(ordered, ((number - 1) // 2)[None], axis=0)[0]
    high = np.take_along_axis(ordered, (number // 2)[None], axis=0)[0]
    low, high = (np.where(valid.any(axis=0), part, 0.0) for part in (low, high))
    return np.asarray((low + high) / 2)


def _mean(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    total = np.where(valid, values.astype(np.float64), 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(valid.sum(axis=0), 1))


def _extreme(values: NDArray[Any], valid: NDArray[np.bool_], *, highest: bool) -> NDArray[Any]:
    spare = np.broadcast_to(valid.any(axis=0), valid.shape)
    wide = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    limit: Any = (
        (-np.inf if highest else np.inf)
        if wide.dtype.kind == "f"
        else np.iinfo(np.int64).min
        if highest
        else np.iinfo(np.int64).max
    )
    found = np.where(valid, wide, limit)
    return np.asarray(np.where(spare[0], found.max(axis=0) if highest else found.min(axis=0), 0))


def _chosen(values: NDArray[Any], valid: NDArray[np.bool_], *, last: bool) -> NDArray[Any]:
    flags = valid[::-1] if last else valid
    index = flags.argmax(axis=0)[None]
    return np.asarray(np.take_along_axis(values[::-1] if last else values, index, axis=0)[0])


_REDUCERS: dict[
    str,
    tuple[Callable[[list[PixelType]], PixelType], Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]]],
] = {
    "median": (_fractional, _median),
    "mean": (_fractional, _mean),
    "min": (_union, functools.partial(_extreme, highest=False)),
    "max": (_union, functools.partial(_extreme, highest=True)),
    "sum": (_total, lambda values, valid: np.where(valid, values, 0).sum(axis=0)),
    "count": (_counted, lambda _, valid: valid.sum(axis=0)),
    "first": (_union, functools.partial(_chosen, last=False)),
    "firstNonNull": (_union, functools.partial(_chosen, last=False)),
    "last": (_union, functools.partial(_chosen, last=True)),
    "lastNonNull": (_union, functools.partial(_chosen, last=True)),
}
