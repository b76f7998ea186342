"""What Earth Engine computes from the bands of two images. By name on the wire."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from support.earthengine.images import Band, EarthEngineError, Image
from support.earthengine.types import BOOLEAN, PixelType, of_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from support.earthengine.images import Raster
    from support.earthengine.places import PixelCoordinates

type Numbers = NDArray[Any]


def partners(image: Image, other: Image, what: str) -> list[tuple[Band, Band]]:
    """Bands of two images side by side: one against all, or by name, or in order."""
    mine, theirs = image.bands, other.bands
    if len(theirs) == 1:
        return [(band, theirs[0]) for band in mine]
    if len(mine) == 1:
        return [(replace(mine[0], name=band.name), band) for band in theirs]
    names = {band.name: band for band in theirs}
    if len(mine) != len(theirs):
        raise EarthEngineError(
            f"{what}: The images must have the same number of bands, or one: {len(mine)} and {len(theirs)}."
        )
    by_name = set(names) == {band.name for band in mine}
    return [
        (band, names[band.name] if by_name else partner) for band, partner in zip(mine, theirs, strict=True)
    ]


def _binary(
    image1: Image,
    image2: Image,
    *,
    name: str,
    function: Callable[[Numbers, Numbers], Numbers],
    result_type: Callable[[PixelType, PixelType], PixelType],
) -> Image:
    def combined(band: Band, other: Band) -> Band:
        type_ = result_type(band.type, other.type)

        def compute(place: PixelCoordinates) -> Raster:
            (a, here), (b, there) = band.at(place), other.at(place)
            exact = a.dtype.kind != "f" and b.dtype.kind != "f"
            wide = np.int64 if exact else np.float64
            with np.errstate(all="ignore"):
                return function(a.astype(wide), b.astype(wide)), here & there

        return band.map(type_, compute)

    pairs = partners(image1, image2, f"Image.{name}")
    return replace(
        image1,
        bands=tuple(combined(band, other) for band, other in pairs),
        footprint=image2.footprint if image1.footprint is None else image1.footprint,
    )


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[PixelType, PixelType], PixelType]:
    """The union of both types, made wider if the results do not fit."""

    def result(a: PixelType, b: PixelType) -> PixelType:
        union = a.union(b)
        if union.precision != "int":
            return PixelType(union.precision)
        corners = [int(function(x, y)) for x in (a.low, a.high) for y in (b.low, b.high)]
        return PixelType("int", min(corners), max(corners)).union(union)

    return result


def _fraction(a: PixelType, b: PixelType) -> PixelType:
    """Of a division: integers give a double."""
    union = a.union(b)
    return PixelType("double" if union.precision == "int" else union.precision)


def _whole(a: PixelType, b: PixelType) -> PixelType:
    """Of bits: a 32-bit number unless both are narrower."""
    union = a.union(b)
    return union if union.precision == "int" else of_dtype("int32")


def _divide(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(np.where(b == 0, 0, a / np.where(b == 0, 1, b)))


def _bits(function: Callable[[Numbers, Numbers], Numbers]) -> Callable[[Numbers, Numbers], Numbers]:
    return lambda a, b: function(a.astype(np.int64), b.astype(np.int64))


def _comparison(function: Callable[[Numbers, Numbers], Numbers]) -> Callable[..., Image]:
    return functools.partial(
        _binary, name="comparison", function=function, result_type=lambda _a, _b: BOOLEAN
    )


def _not(value: Image) -> Image:
    def negated(band: Band) -> Band:
        def compute(place: PixelCoordinates) -> Raster:
            values, valid = band.at(place)
            return values == 0, valid

        return band.map(BOOLEAN, compute)

    return value.with_bands(negated(band) for band in value.bands)


_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "max": np.maximum,
    "min": np.minimum,
}
_COMPARISONS: Final[dict[str, Callable[[Numbers, Numbers], Numbers]]] = {
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "and": lambda a, b: (a != 0) & (b != 0),
    "or": lambda a, b: (a != 0) | (b != 0),
}
_BITS: Final[dict[str, Callable[[Numbers, Numbers], Numbers]]] = {
    "bitwiseAnd": lambda a, b: a & b,
    "bitwiseOr": lambda a, b: a | b,
    "bitwiseXor": lambda a, b: a ^ b,
    "rightShift": lambda a, b: a >> b,
}
ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "Image.not": _not,
    **{
        f"Image.{name}": functools.partial(
            _binary, name=name, function=function, result_type=_arithmetic(function)
        )
        for name, function in _ARITHMETIC.items()
    },
    "Image.divide": functools.partial(_binary, name="divide", function=_divide, result_type=_fraction),
    **{f"Image.{name}": _comparison(function) for name, function in _COMPARISONS.items()},
    **{
        f"Image.{name}": functools.partial(_binary, name=name, function=_bits(function), result_type=_whole)
        for name, function in _BITS.items()
    },
    "Image.leftShift": functools.partial(
        _binary,
        name="leftShift",
        function=_bits(lambda a, b: a << b),
        result_type=lambda _a, _b: of_dtype("int32"),
    ),
}
"""Each takes Earth Engine's arguments by name."""
