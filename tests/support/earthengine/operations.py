"""What Earth Engine does to images: bands, masks, casts. By name on the wire."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from support.earthengine.arithmetic import ARITHMETIC, partners
from support.earthengine.images import Band, EarthEngineError, Image, constant
from support.earthengine.types import CASTS, PixelType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from support.earthengine.geometry import Geometry
    from support.earthengine.images import Raster
    from support.earthengine.places import PixelCoordinates

type Numbers = NDArray[Any]


def _constant(value: Any) -> Image:
    if isinstance(value, list):
        return Image(
            bands=tuple(constant(one, f"constant_{n}" if n else "constant") for n, one in enumerate(value))
        )
    return Image(bands=(constant(value),))


def _select(
    input: Image,
    bandSelectors: Sequence[str | int],
    newNames: Sequence[str] | None = None,
) -> Image:
    return input.select(bandSelectors, newNames)


def _rename(input: Image, names: Sequence[str]) -> Image:
    if len(names) != len(input.bands):
        raise EarthEngineError(
            f"Image.rename: The number of names ({len(names)}) must match the number of bands"
            f" ({len(input.bands)})."
        )
    return input.with_bands(replace(band, name=name) for band, name in zip(input.bands, names, strict=True))


def _add_bands(
    dstImg: Image,
    srcImg: Image,
    names: Sequence[str | int] | None = None,
    overwrite: bool = False,
) -> Image:
    added = list((srcImg if names is None else srcImg.select(names)).bands)
    bands = list(dstImg.bands)
    for band in added:
        taken = [one.name for one in bands]
        if overwrite and band.name in taken:
            bands[taken.index(band.name)] = band
        else:
            bands.append(replace(band, name=_free_name(band.name, taken)))
    return replace(dstImg, bands=tuple(bands), footprint=_common(dstImg, srcImg))


def _free_name(name: str, taken: Sequence[str]) -> str:
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _common(one: Image, other: Image) -> Any:
    """The footprint of an image made of two: all that either has."""
    if one.footprint is None or other.footprint is None:
        return None
    return tuple(dict.fromkeys((*one.footprint, *other.footprint)))


def _masked(band: Band, keep: Callable[[PixelCoordinates, NDArray[np.bool_]], NDArray[np.bool_]]) -> Band:
    """The band with another validity, made of its own."""

    def compute(place: PixelCoordinates) -> Raster:
        values, valid = band.at(place)
        return values, keep(place, valid)

    return band.map(band.type, compute)


def _clip(input: Image, geometry: Geometry) -> Image:
    return input.with_bands(
        _masked(band, lambda place, valid: valid & geometry.holds(place)) for band in input.bands
    )


def _update_mask(image: Image, mask: Image) -> Image:
    def bounded(band: Band, by: Band) -> Band:
        def keep(place: PixelCoordinates, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
            values, there = by.at(place)
            return np.asarray(valid & there & (values != 0))

        return _masked(band, keep)

    if len(mask.bands) > 1 and len(image.bands) != len(mask.bands):
        raise EarthEngineError("Image.updateMask: The mask must have one band, or as many as the image.")
    return image.with_bands(bounded(band, by) for band, by in partners(image, mask, "Image.updateMask"))


def _mask(image: Image, mask: Image | None = None) -> Image:
    """The image's own mask, or the image with another mask."""
    if mask is not None:

        def replaced(band: Band, by: Band) -> Band:
            def keep(place: PixelCoordinates, _: NDArray[np.bool_]) -> NDArray[np.bool_]:
                values, there = by.at(place)
                return np.asarray(there & (values != 0))

            return _masked(band, keep)

        pairs = partners(image, mask, "Image.mask")
        return replace(image, bands=tuple(replaced(band, by) for band, by in pairs), footprint=mask.footprint)

    def shown(band: Band) -> Band:
        def compute(place: PixelCoordinates) -> Raster:
            valid = band.at(place)[1]
            return valid, np.ones_like(valid)

        return band.map(PixelType("double", 0, 1), compute)

    return replace(image.with_bands(shown(band) for band in image.bands), footprint=None)


def _unmask(input: Image, value: Image | None = None, sameFootprint: bool = True) -> Image:
    def filled(band: Band, by: Band) -> Band:
        type_ = band.type.union(by.type)

        def compute(place: PixelCoordinates) -> Raster:
            (values, valid), (others, there) = band.at(place), by.at(place)
            result = np.where(valid, values.astype(type_.dtype), others.astype(type_.dtype))
            now = valid | there
            return result, now & (valid | input.inside(place)) if sameFootprint else now

        return band.map(type_, compute)

    fill = value or _constant(0)
    image = input.with_bands(filled(band, by) for band, by in partners(input, fill, "Image.unmask"))
    return image if sameFootprint else replace(image, footprint=None)


def _self_mask(image: Image) -> Image:
    return _update_mask(image, image)


def _cast(band: Band, type_: PixelType) -> Band:
    """Integers are cut off towards zero and kept inside the range."""

    def compute(place: PixelCoordinates) -> Raster:
        values, valid = band.at(place)
        if type_.precision == "int":
            values = np.nan_to_num(np.trunc(values)) if values.dtype.kind == "f" else values.astype(np.int64)
            values = np.clip(values, type_.low, type_.high)
        return values, valid

    return band.map(type_, compute)


def _cast_all(value: Image, *, type_: PixelType) -> Image:
    return value.with_bands(_cast(band, type_) for band in value.bands)


def _cast_some(
    image: Image,
    bandTypes: dict[str, str],
    bandOrder: Sequence[str] | None = None,
) -> Image:
    bands = [
        _cast(band, CASTS[bandTypes[band.name]]) if band.name in bandTypes else band for band in image.bands
    ]
    cast = image.with_bands(bands)
    return cast if bandOrder is None else cast.select(bandOrder)


def _coordinates(projection: str) -> Image:
    """The pixels' centres. In the request's own CRS they are what its affine says."""

    def compute(axis: int, place: PixelCoordinates) -> Raster:
        from_grid = projection.upper() == place.grid.crs.upper()
        parts = place.own if from_grid else place.at(projection)
        return parts[axis], np.ones((1, 1), dtype=np.bool_)

    type_ = PixelType("double")
    return Image(
        bands=tuple(Band(name, type_, functools.partial(compute, axis)) for axis, name in enumerate("xy"))
    )


def _lonlat() -> Image:
    return _rename(_coordinates("EPSG:4326"), ["longitude", "latitude"])


def _same(image: Image, **_: object) -> Image:
    """What does not change nearest-neighbour pixels."""
    return image


def _unsupported(**_: object) -> Image:
    raise EarthEngineError("Image.resample: resampling is not supported by the stand-in.")


_CAST_NAMES: Final = {
    **CASTS,
    **{f"to{name.capitalize()}": type_ for name, type_ in CASTS.items()},
}

OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    **ARITHMETIC,
    "Image.constant": _constant,
    "Image.select": _select,
    "Image.rename": _rename,
    "Image.addBands": _add_bands,
    "Image.cat": lambda images: functools.reduce(_add_bands, images),
    "Image.clip": _clip,
    "Image.updateMask": _update_mask,
    "Image.mask": _mask,
    "Image.unmask": _unmask,
    "Image.selfMask": _self_mask,
    "Image.cast": _cast_some,
    "Image.pixelCoordinates": _coordinates,
    "Image.pixelLonLat": _lonlat,
    "Image.reproject": _same,
    "Image.setDefaultProjection": _same,
    "Image.resample": _unsupported,
    **{f"Image.{name}": functools.partial(_cast_all, type_=type_) for name, type_ in _CAST_NAMES.items()},
}
"""Each takes Earth Engine's arguments by name."""
