"""Earth Engine's pixel types: a precision and a range. An integer's range decides its dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

type Precision = Literal["int", "float", "double"]

_PRECISIONS: Final[tuple[Precision, ...]] = ("int", "float", "double")
_INTEGERS: Final = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64")


@dataclass(frozen=True, slots=True)
class PixelType:
    """The type of a band's pixels, as Earth Engine describes it."""

    precision: Precision
    low: float | None = None
    """Smallest value; None if not known. Integers always know."""
    high: float | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is sent: the smallest integer that holds the range, else float32 or float64."""
        if self.precision != "int":
            return np.dtype(np.float32 if self.precision == "float" else np.float64)
        assert self.low is not None
        assert self.high is not None
        for name in _INTEGERS:
            bounds = np.iinfo(name)
            if bounds.min <= self.low and self.high <= bounds.max:
                return np.dtype(name)
        return np.dtype(np.int64)

    def union(self, other: PixelType) -> PixelType:
        """The type that holds the values of both."""
        precision = max(self.precision, other.precision, key=_PRECISIONS.index)
        known = None not in (self.low, self.high, other.low, other.high)
        if not known:
            return PixelType(precision)
        return PixelType(precision, min(self.low, other.low), max(self.high, other.high))  # type: ignore[type-var]

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        bounds = {"min": self.low, "max": self.high}
        known = {key: value for key, value in bounds.items() if value is not None}
        return {"type": "PixelType", "precision": self.precision, **known}


def of_dtype(name: str) -> PixelType:
    """The type that holds all values of a dtype: "uint8", ..., "float32", "float64"."""
    dtype = np.dtype(name)
    if dtype.kind == "f":
        return PixelType("float" if dtype.itemsize == 4 else "double")
    bounds = np.iinfo(dtype)
    return PixelType("int", bounds.min, bounds.max)


def of_value(value: float) -> PixelType:
    """The type of a constant: its range is the value itself. JSON knows no integers: 2.0 is one too."""
    whole = float(value).is_integer() and abs(value) < 2**63
    return PixelType("int", int(value), int(value)) if whole else PixelType("double", value, value)


BOOLEAN: Final = PixelType("int", 0, 1)

CASTS: Final[dict[str, PixelType]] = {
    "byte": of_dtype("uint8"),
    "short": of_dtype("int16"),
    "int": of_dtype("int32"),
    "long": of_dtype("int64"),
    "float": of_dtype("float32"),
    "double": of_dtype("float64"),
    **{name: of_dtype(name) for name in _INTEGERS},
}
"""By the names that `Image.cast` takes; `Image.toInt16` and `Image.int16` are the same."""
