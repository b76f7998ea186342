"""Geoboxes: the pixel grid that a caller wants back."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from icehouse._errors import BadParameter

type Affine6 = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: x = a * column + b * row + c, y = d * column + e * row + f, of pixel corners."""

_CODE = re.compile(r"^\[?([A-Za-z][A-Za-z0-9_]*):([A-Za-z0-9_.]+)\]?$")
_URI = re.compile(
    r"^(?:https?://www\.opengis\.net/def/crs/([A-Za-z]+)/[^/]*/([A-Za-z0-9]+)"
    r"|urn:ogc:def:crs:([A-Za-z]+):[^:]*:([A-Za-z0-9]+))$"
)
# The identifier that closes a WKT is the one of the whole CRS; those of its parts stand further in.
_WKT_CODE = re.compile(r'(?:ID|AUTHORITY)\[\s*"([A-Za-z]+)"\s*,\s*"?([A-Za-z0-9]+)"?\s*\]\s*\]\s*$')
_WKT = re.compile(r"^[A-Z_0-9]+\s*\[")


class HasShape(Protocol):
    """What every geobox has, in addition to `affine` or `transform`: rows and columns, and a CRS."""

    @property
    def shape(self) -> Any:  # noqa: ANN401 - tuple, odc Shape2d, ...
        """(rows, columns)."""

    @property
    def crs(self) -> Any:  # noqa: ANN401 - str, odc, pyproj or rasterio CRS
        """The coordinate reference system of the grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoBox:
    """A pixel grid, for those who have no odc-geo: `GeoBox(crs="EPSG:3413", transform=..., shape=(ny, nx))`.

    Raises:
        BadParameter: the transform is not six finite numbers that can be inverted, the shape is not two
            positive integers, or the CRS is neither a code nor a WKT.
    """

    crs: str
    """A code such as `EPSG:3413`, or a WKT."""
    transform: Affine6
    """a, b, c, d, e, f in Affine order (not GDAL's), in units of the CRS, x before y; e < 0 is north up."""
    shape: tuple[int, int]
    """(rows, columns)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "crs", _normal_crs(self.crs))
        object.__setattr__(self, "transform", _normal_transform(self.transform))
        object.__setattr__(self, "shape", _normal_shape(self.shape))

    @property
    def axis_aligned(self) -> bool:
        """Whether rows and columns run along the axes of the CRS."""
        return self.transform[1] == 0 and self.transform[3] == 0

    def window(self, row: int, col: int, shape: tuple[int, int]) -> GeoBox:
        """The part of this grid that starts at pixel (row, col) and has the given (rows, columns)."""
        a, b, c, d, e, f = self.transform
        moved = (a, b, c + a * col + b * row, d, e, f + d * col + e * row)
        return GeoBox(crs=self.crs, transform=moved, shape=shape)

    def to_json(self) -> dict[str, object]:
        """The grid in the names of the STAC projection extension, as the daemon takes it."""
        crs_name = "proj:code" if _CODE.match(self.crs) else "proj:wkt2"
        return {
            crs_name: self.crs,
            "proj:transform": list(self.transform),
            "proj:shape": list(self.shape),
        }


def as_geobox(obj: Any) -> GeoBox:  # noqa: ANN401 - anything with the right attributes
    """The grid of any object with `.crs`, `.affine` or `.transform`, and `.shape`.

    That is an odc-geo GeoBox, the `.rio` accessor of rioxarray, an open rasterio dataset, a `GeoBox`.

    Raises:
        BadParameter: an attribute is missing, or `GeoBox` refuses it.
    """
    if isinstance(obj, GeoBox):
        return obj
    affine = getattr(obj, "affine", None)
    if affine is None:
        affine = getattr(obj, "transform", None)
    if callable(affine):  # rioxarray: a method
        affine = affine()
    crs, shape = getattr(obj, "crs", None), getattr(obj, "shape", None)
    if affine is None or crs is None or shape is None:
        hint = " Pass an xarray object as like=." if hasattr(obj, "coords") and hasattr(obj, "dims") else ""
        raise BadParameter(
            f"a geobox needs .crs, .affine (or .transform) and .shape; {type(obj).__name__} lacks some.{hint}"
        )
    return GeoBox(crs=crs_text(crs), transform=affine, shape=shape)


def crs_text(crs: Any) -> str:  # noqa: ANN401 - str, int, odc, pyproj or rasterio CRS
    """A CRS as authority code where it is known by one, else as WKT.

    A code is taken only where the CRS names it itself. Guessing the nearest code, as `to_epsg()` does, could
    return a grid in another CRS than the one asked for.

    Raises:
        BadParameter: it is neither a code nor a WKT.
    """
    if isinstance(crs, int) and not isinstance(crs, bool):
        return f"EPSG:{crs}"
    text = str(crs)
    if not isinstance(crs, str) and not _CODE.match(text):
        to_wkt = getattr(crs, "to_wkt", None)
        text = str(to_wkt()) if callable(to_wkt) else text
    return _normal_crs(text)


def _normal_crs(crs: object) -> str:
    text = str(crs).strip()
    match = _CODE.match(text) or _URI.match(text) or (_WKT.match(text) and _WKT_CODE.search(text))
    if match:
        authority, code = (group for group in match.groups() if group is not None)
        return f"{authority.upper()}:{code}"
    if not _WKT.match(text):
        raise BadParameter(f"crs: expected a code such as EPSG:3413 or a WKT, got {text[:80]!r}")
    return text


def _normal_transform(transform: Any) -> Affine6:  # noqa: ANN401 - Affine, tuple, list, array
    try:
        # An affine.Affine is a tuple of nine, the last three 0, 0, 1.
        a, b, c, d, e, f = (float(value) for value in tuple(transform)[:6])
    except (TypeError, ValueError) as error:
        raise BadParameter(f"transform: expected six numbers a, b, c, d, e, f, got {transform!r}") from error
    if not all(map(math.isfinite, (a, b, c, d, e, f))) or a * e - b * d == 0:
        raise BadParameter(f"transform: must be finite and invertible, got {transform!r}")
    return (a, b, c, d, e, f)


def _normal_shape(shape: Any) -> tuple[int, int]:  # noqa: ANN401 - tuple, odc Shape2d, array
    try:
        rows, cols = (value.__index__() for value in tuple(shape))
    except (TypeError, ValueError, AttributeError) as error:
        raise BadParameter(f"shape: expected (rows, columns), got {shape!r}") from error
    if rows < 1 or cols < 1:
        raise BadParameter(f"shape: rows and columns must be positive, got {(rows, cols)}")
    return (rows, cols)
