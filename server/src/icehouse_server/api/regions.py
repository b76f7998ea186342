"""From request parameters to a region: bbox, CRS, size. Axis order is x, y (lon, lat) for every CRS."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import RESAMPLINGS, CollectionSpec
from icehouse_server.core.errors import BadParameterError, OutsideError
from icehouse_server.core.footprint import transformer
from icehouse_server.core.grid import Window
from icehouse_server.core.plan import Region

_CODE = re.compile(r"\[?(?P<authority>[A-Za-z]{2,10}):(?P<code>[A-Za-z0-9]{1,12})\]?")
_URI = re.compile(r"https?://www\.opengis\.net/def/crs/(?P<authority>\w{2,10})/[\w.]{1,8}/(?P<code>\w{1,12})")
_URN = re.compile(r"urn:ogc:def:crs:(?P<authority>\w{2,10}):[\w.]{0,8}:(?P<code>\w{1,12})", re.IGNORECASE)
_CRS84 = CRS("EPSG:4326")
"""CRS84 is EPSG:4326 with lon, lat axes, which is the axis order used throughout."""

_LATTICE = 65
"""Points along each side of a bbox by which its outline in another CRS is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A rectangle in some CRS: x grows to the east, ``east`` may exceed 180 where 180 is crossed."""

    west: float
    south: float
    east: float
    north: float


def parse_crs(text: str, parameter: str) -> CRS:
    """Read a CRS: ``EPSG:3413``, ``[EPSG:3413]``, an OGC URI or URN, or ``CRS84``.

    Only codes: no WKT, no PROJ string, nothing that could name a file.

    Raises:
        BadParameterError: it is none of these, or PROJ does not know it.
    """
    word = text.strip()
    if word.upper() in {"CRS84", "OGC:CRS84", "[OGC:CRS84]"}:
        return _CRS84
    found = _CODE.fullmatch(word) or _URI.fullmatch(word) or _URN.fullmatch(word)
    right = "give a code such as EPSG:3413 or http://www.opengis.net/def/crs/EPSG/0/3413, or CRS84"
    if found is None:
        raise BadParameterError(parameter, f"{parameter}: {text[:80]!r} is no CRS code", hint=right)
    authority, code = found["authority"].upper(), found["code"]
    if authority == "OGC" and code.upper() == "CRS84":
        return _CRS84
    try:
        return CRS(f"{authority}:{code}")
    except Exception:  # noqa: BLE001 - pyproj's errors have no common base worth naming here
        raise BadParameterError(
            parameter, f"{parameter}: {authority}:{code} is not known", hint=right
        ) from None


def parse_numbers(text: str, parameter: str, counts: Sequence[int]) -> list[float]:
    """Read finite numbers between commas.

    Raises:
        BadParameterError: not numbers, not finite, or not as many as wanted.
    """
    wanted = " or ".join(str(count) for count in counts)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise BadParameterError(
            parameter, f"{parameter}: {text[:80]!r} is not {wanted} number(s) between commas"
        ) from None
    if len(numbers) not in counts:
        raise BadParameterError(parameter, f"{parameter}: {len(numbers)} number(s) given, {wanted} wanted")
    if not all(math.isfinite(number) for number in numbers):
        raise BadParameterError(parameter, f"{parameter}: NaN and infinity are no coordinates")
    return numbers


def parse_bbox(text: str, crs: CRS) -> Bounds:
    """Read ``minx,miny,maxx,maxy``; in a geographic CRS minx > maxx crosses the antimeridian."""
    west, south, east, north = parse_numbers(text, "bbox", (4,))
    right = "it is minx,miny,maxx,maxy (lon, lat for geographic CRSs)"
    if south >= north:
        raise BadParameterError("bbox", f"bbox: miny {south} is not below maxy {north}", hint=right)
    if crs.geographic:
        if not (-90 <= south <= 90 and -90 <= north <= 90):  # noqa: PLR2004
            raise BadParameterError("bbox", "bbox: latitudes go from -90 to 90", hint=right)
        if not (-180 <= west <= 180 and -180 <= east <= 180):  # noqa: PLR2004
            raise BadParameterError("bbox", "bbox: longitudes go from -180 to 180", hint=right)
        if west > east:
            east += 360
    if west >= east:
        raise BadParameterError("bbox", f"bbox: minx {west} is not below maxx {east}", hint=right)
    return Bounds(west=west, south=south, east=east, north=north)


def parse_size(text: str | None, parameter: str) -> int | None:
    """Read a number of output cells.

    Raises:
        BadParameterError: not a whole number from 1 to a million.
    """
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 1_000_000 or len(text) > 7:  # noqa: PLR2004
        raise BadParameterError(
            parameter, f"{parameter}: {text[:40]!r} is not a whole number from 1 to 1000000"
        )
    return int(text)


def parse_resampling(text: str | Mapping[str, str] | None, spec: CollectionSpec) -> dict[str, str]:
    """Return resampling by band name; one word holds for all bands.

    Raises:
        BadParameterError: no GDAL resampling.
        UnknownBandError: a table names a band that there is not.
    """
    if text is None:
        return {}
    table = {band.name: text for band in spec.bands} if isinstance(text, str) else dict(text)
    for name, method in table.items():
        spec.band(name)
        if method not in RESAMPLINGS:
            raise BadParameterError(
                "resampling",
                f"resampling: {method[:40]!r} is unknown",
                hint=f"one of {', '.join(RESAMPLINGS)}",
            )
    return table


def parse_bands(text: str | None) -> list[str] | None:
    """Read a comma list of band names; None where nothing is asked for."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise BadParameterError(
            "bands", f"bands: {text[:80]!r} names nothing, or a band twice", hint="such as dem,mad"
        )
    return names


def check_datetime(text: str | None, spec: CollectionSpec) -> None:
    """Refuse a time for a collection that has none: nothing is ignored silently.

    Raises:
        BadParameterError: a time was given.
    """
    if text is not None:
        raise BadParameterError(
            "datetime", f"datetime: collection {spec.id!r} has no time axis", hint="leave datetime out"
        )


def project(bounds: Bounds, source: CRS, target: CRS) -> Bounds:
    """Return the rectangle in another CRS that holds a rectangle, by a lattice of its points.

    Raises:
        BadParameterError: no point of it has a place in the other CRS.
    """
    if source == target:
        return bounds
    x, y = np.meshgrid(
        np.linspace(bounds.west, bounds.east, _LATTICE), np.linspace(bounds.south, bounds.north, _LATTICE)
    )
    to_x, to_y = transformer(source, target).transform(x, y)
    finite = np.isfinite(to_x) & np.isfinite(to_y)
    if not finite.any():
        raise BadParameterError("bbox", f"bbox: it has no place in {target}")
    south, north = float(to_y[finite].min()), float(to_y[finite].max())
    if not target.geographic:
        return Bounds(
            west=float(to_x[finite].min()), south=south, east=float(to_x[finite].max()), north=north
        )
    for pole in (90.0, -90.0):
        px, py = transformer(target, source).transform(0.0, pole)
        if bounds.west <= px <= bounds.east and bounds.south <= py <= bounds.north:
            return Bounds(west=-180, south=min(south, pole), east=180, north=max(north, pole))
    west, east = _unwrapped(to_x[finite])
    return Bounds(west=west, south=south, east=east, north=north)


def _unwrapped(longitudes: NDArray[np.float64]) -> tuple[float, float]:
    """Return west and east of longitudes that lie together; east exceeds 180 where 180 is crossed."""
    centre = float(longitudes[len(longitudes) // 2])
    offsets = (longitudes - centre + 180.0) % 360.0 - 180.0
    west, east = centre + float(offsets.min()), centre + float(offsets.max())
    return (west + 360.0, east + 360.0) if west < -180.0 else (west, east)  # noqa: PLR2004


def native_geobox(spec: CollectionSpec, bounds: Bounds) -> GeoBox:
    """Return the collection's own grid under bounds of its CRS, snapped outward, cut at the grid's edge.

    Raises:
        OutsideError: they do not touch the grid.
    """
    inverse = ~spec.grid.geobox.affine
    col, row = inverse * (bounds.west, bounds.north)
    stop_col, stop_row = inverse * (bounds.east, bounds.south)
    edge = 1e-6  # of a pixel: bounds that lie on pixel edges but for rounding take in no further row
    window = Window.from_bounds(
        math.floor(row + edge),
        math.floor(col + edge),
        max(math.ceil(stop_row - edge), math.floor(row + edge) + 1),
        max(math.ceil(stop_col - edge), math.floor(col + edge) + 1),
    )
    inside = window.intersection(spec.grid.window)
    if inside is None:
        raise OutsideError("the region lies outside the collection")
    return spec.grid.geobox_of(inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of an answer as a caller gives it: cells or cell size, or neither."""

    width: int | None = None
    height: int | None = None
    resolution: tuple[float, float] | None = None
    """Positive (x, y) cell size in units of the output CRS."""

    def __post_init__(self) -> None:
        if self.resolution is not None and (self.width is not None or self.height is not None):
            raise BadParameterError(
                "resolution", "resolution: give either resolution, or width and height", hint="leave one out"
            )

    @property
    def given(self) -> bool:
        """True when anything is said about the size."""
        return (self.width, self.height, self.resolution) != (None, None, None)


def parse_resolution(text: str | None) -> tuple[float, float] | None:
    """Read a cell size: one number, or x,y.

    Raises:
        BadParameterError: not one or two positive numbers.
    """
    if text is None:
        return None
    numbers = parse_numbers(text, "resolution", (1, 2))
    if min(numbers) <= 0:
        raise BadParameterError("resolution", f"resolution: {text[:40]!r} is not positive")
    return numbers[0], numbers[-1]


def geobox_for(spec: CollectionSpec, bounds: Bounds | None, crs: CRS, target: CRS, size: Size) -> GeoBox:
    """Return the geobox that a request without an exact one means.

    Args:
        spec: the collection.
        bounds: rectangle in ``crs``; the whole collection when None.
        crs: CRS of the bounds.
        target: CRS of the output.
        size: cells or cell size; without it the collection's own grid is returned.
    """
    grid_crs = spec.grid.crs
    if bounds is None:
        box = spec.grid.geobox.boundingbox
        bounds = Bounds(west=box.left, south=box.bottom, east=box.right, north=box.top)
        crs = grid_crs
    if not size.given and target == grid_crs:
        return native_geobox(spec, project(bounds, crs, grid_crs))
    there = project(bounds, crs, target)
    if not size.given:
        native = native_geobox(spec, project(bounds, crs, grid_crs))
        step = native.to_crs(target).resolution
        return _by_resolution(there, (abs(step.x), abs(step.y)), target)
    if size.resolution is not None:
        return _by_resolution(there, size.resolution, target)
    return _by_shape(there, size, target)


def _by_shape(bounds: Bounds, size: Size, crs: CRS) -> GeoBox:
    span_x, span_y = bounds.east - bounds.west, bounds.north - bounds.south
    width = size.width or max(1, round((size.height or 1) * span_x / span_y))
    height = size.height or max(1, round(width * span_y / span_x))
    affine = Affine(span_x / width, 0.0, bounds.west, 0.0, -span_y / height, bounds.north)
    return GeoBox((height, width), affine, crs)


def _by_resolution(bounds: Bounds, step: tuple[float, float], crs: CRS) -> GeoBox:
    """Snap outward to multiples of the cell size, as odc-stac does (anchor at the edge)."""
    edge = 1e-6
    col, stop_col = math.floor(bounds.west / step[0] + edge), math.ceil(bounds.east / step[0] - edge)
    row, stop_row = math.floor(bounds.south / step[1] + edge), math.ceil(bounds.north / step[1] - edge)
    affine = Affine(step[0], 0.0, col * step[0], 0.0, -step[1], stop_row * step[1])
    return GeoBox((max(1, stop_row - row), max(1, stop_col - col)), affine, crs)


def region(
    spec: CollectionSpec,
    geobox: GeoBox,
    bands: Sequence[str] | None,
    resampling: Mapping[str, str],
) -> Region:
    """Return the region of a geobox.

    Raises:
        UnknownBandError: a band that there is not.
    """
    return Region(collection=spec, bands=spec.select(bands), target=geobox, resampling=resampling)
