"""From the text of a parameter to its value, and back. Refusals name the parameter as the caller wrote it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from odc.geo.crs import CRS
from pyproj.exceptions import ProjError

from icehouse_server.core.collection import RESAMPLINGS, CollectionSpec
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.geometry.transformers import transformer
from icehouse_server.core.time import TimeRange

_CODE = re.compile(r"(?P<open>\[)?(?P<authority>[A-Za-z]{2,10}):(?P<code>[A-Za-z0-9]{1,12})(?(open)\])")
_URI = re.compile(r"https?://www\.opengis\.net/def/crs/(?P<authority>\w{2,10})/[\w.]{1,8}/(?P<code>\w{1,12})")
_URN = re.compile(r"urn:ogc:def:crs:(?P<authority>\w{2,10}):[\w.]{0,8}:(?P<code>\w{1,12})", re.IGNORECASE)

_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?", re.ASCII)
"""A decimal number: ``float`` alone takes NaN, underscores, spaces and the digits of every script."""

_WHOLE = re.compile(r"\d{1,7}", re.ASCII)
_MAX_CELLS = 1_000_000

CRS84_URI = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

_CRS84 = CRS("EPSG:4326")
"""CRS84 is EPSG:4326 with lon, lat axes, which is the axis order used throughout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A rectangle in some CRS: x grows to the east, ``east`` may exceed 180 where 180 is crossed."""

    west: float
    south: float
    east: float
    north: float


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


def parse_crs(text: str, parameter: str) -> CRS:
    """Read a CRS: ``EPSG:3413``, ``[EPSG:3413]``, an OGC URI or URN, or ``CRS84``.

    Only codes: no WKT, no PROJ string, nothing that could name a file.

    Raises:
        BadParameterError: it is none of these, PROJ does not know it, or it is no map of the earth.
    """
    right = "give a code such as EPSG:3413 or http://www.opengis.net/def/crs/EPSG/0/3413, or CRS84"
    if text.upper() in {"CRS84", "OGC:CRS84", "[OGC:CRS84]"}:
        return _CRS84
    found = _CODE.fullmatch(text) or _URI.fullmatch(text) or _URN.fullmatch(text)
    if found is None:
        raise BadParameterError(parameter, f"{parameter}: {text[:80]!r} is no CRS code", hint=right)
    authority, code = found["authority"].upper(), found["code"].upper()
    if (authority, code) == ("OGC", "CRS84"):
        return _CRS84
    crs, fits = _crs_of_code(f"{authority}:{code}")
    if crs is None:
        raise BadParameterError(parameter, f"{parameter}: {authority}:{code} is not known", hint=right)
    if not fits:
        raise BadParameterError(
            parameter, f"{parameter}: {authority}:{code} is no map of the earth in two axes", hint=right
        )
    return crs


def crs_uri(crs: CRS | None) -> str:
    """Return a CRS as OGC writes it: a URI where there is a code, else WKT."""
    code = None if crs is None else crs.authority
    if crs is None or code is None or not all(code):
        return "" if crs is None else crs.to_wkt()
    return f"http://www.opengis.net/def/crs/{code[0]}/0/{code[1]}"


@lru_cache(maxsize=256)
def _crs_of_code(code: str) -> tuple[CRS | None, bool]:
    """Return the CRS of a code, and whether it is a map; also remembered for those that there are not."""
    try:
        crs = CRS(code)
    except (ProjError, ValueError, TypeError, OSError):
        return None, False
    return crs, is_map(crs)


def is_map(crs: CRS) -> bool:
    """Return whether a CRS is a map of the earth: two axes, no height, no geocentre, no other planet."""
    if not (crs.projected or crs.geographic) or len(crs.proj.axis_info) != 2:  # noqa: PLR2004
        return False
    try:
        transformer(_CRS84, crs)
    except ProjError:
        return False
    return True


def parse_numbers(text: str, parameter: str, counts: Sequence[int]) -> list[float]:
    """Read finite numbers between commas.

    Raises:
        BadParameterError: not numbers, not finite, or not as many as wanted.
    """
    wanted = " or ".join(str(count) for count in counts)
    parts = [part.strip(" ") for part in text.split(",")]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise BadParameterError(
            parameter, f"{parameter}: {text[:80]!r} is not {wanted} finite number(s) between commas"
        )
    if len(parts) not in counts:
        raise BadParameterError(parameter, f"{parameter}: {len(parts)} number(s) given, {wanted} wanted")
    numbers = [float(part) for part in parts]
    if not all(math.isfinite(number) for number in numbers):
        raise BadParameterError(parameter, f"{parameter}: {text[:80]!r} holds a number that is too large")
    return numbers


def parse_number(text: str, parameter: str) -> float:
    """Read one finite number."""
    return parse_numbers(text, parameter, (1,))[0]


def parse_lonlat(lon: float, lat: float, parameters: tuple[str, str] = ("lon", "lat")) -> tuple[float, float]:
    """Check a longitude and a latitude.

    Raises:
        BadParameterError: out of range.
    """
    for parameter, value, limit in zip(parameters, (lon, lat), (180.0, 90.0), strict=True):
        if not -limit <= value <= limit:
            raise BadParameterError(
                parameter, f"{parameter}: {value:g} is out of range, which is {-limit:g} to {limit:g} degrees"
            )
    return lon, lat


def parse_bbox(text: str, crs: CRS) -> Bounds:
    """Read ``minx,miny,maxx,maxy``; in a geographic CRS minx > maxx crosses the antimeridian."""
    west, south, east, north = parse_numbers(text, "bbox", (4,))
    right = "it is minx,miny,maxx,maxy (lon, lat for geographic CRSs)"
    if crs.geographic:
        for corner in ((west, south), (east, north)):
            parse_lonlat(*corner, ("bbox", "bbox"))
        if west > east:
            east += 360
    if south >= north:
        raise BadParameterError("bbox", f"bbox: miny {south} is not below maxy {north}", hint=right)
    if west >= east:
        raise BadParameterError("bbox", f"bbox: minx {west} is not below maxx {east}", hint=right)
    return Bounds(west=west, south=south, east=east, north=north)


def parse_cells(text: str | None, parameter: str) -> int | None:
    """Read a number of output cells.

    Raises:
        BadParameterError: not a whole number from 1 to a million.
    """
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= _MAX_CELLS:
        raise BadParameterError(
            parameter, f"{parameter}: {text[:40]!r} is not a whole number from 1 to {_MAX_CELLS}"
        )
    return int(text)


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


def parse_bands(text: str | None, parameter: str = "bands") -> list[str] | None:
    """Read a comma list of band names; None where nothing is asked for."""
    return None if text is None else check_bands([name.strip(" ") for name in text.split(",")], parameter)


def check_bands(names: list[str], parameter: str = "bands") -> list[str]:
    """Check a list of band names.

    Raises:
        BadParameterError: it is empty, or holds an empty name, or one twice.
    """
    if not names or not all(names):
        raise BadParameterError(parameter, f"{parameter}: a band's name is empty", hint="such as dem,mad")
    if len(set(names)) != len(names):
        raise BadParameterError(parameter, f"{parameter}: a band is named twice", hint="such as dem,mad")
    return names


def parse_level(given: str | int | None, spec: CollectionSpec) -> int | None:
    """Read a level; None where none is given.

    Raises:
        BadParameterError: it is no whole number, or the collection has no such level.
    """
    if given is None:
        return None
    last = len(spec.grids) - 1
    text = str(given)
    if not _WHOLE.fullmatch(text) or int(text) > last:
        raise BadParameterError(
            "level",
            f"level: {text[:40]!r} is not a whole number from 0 to {last}",
            hint="0 is the full resolution; each further level halves it",
        )
    return int(text)


def parse_snapshot(text: str | None) -> str | None:
    """Read a snapshot's id or tag.

    Raises:
        BadParameterError: it is empty, or holds what no id and no tag can.
    """
    if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", text, re.ASCII):
        raise BadParameterError(
            "snapshot",
            f"snapshot: {text[:40]!r} is neither a snapshot's id nor a tag",
            hint="the header Icehouse-Snapshot of an answer holds the id that it was read from",
        )
    return text


def parse_datetime(
    given: str | Sequence[str] | None, spec: CollectionSpec, *, now: datetime | None = None
) -> tuple[int, ...] | None:
    """Return the numbers of the time steps that are asked for; all where nothing is said.

    Args:
        given: instants and intervals, between commas or in a list; each must touch a step.
        spec: of the collection; None is returned where it has no time axis.
        now: which steps there are is a question of time.

    Raises:
        BadParameterError: no time, or the collection has no time axis: nothing is ignored silently.
        UnknownTimeError: no step lies there; names the nearest.
    """
    axis = spec.time
    if axis is None:
        if given is None:
            return None
        raise BadParameterError(
            "datetime", f"datetime: collection {spec.id!r} has no time axis", hint="leave datetime out"
        )
    entries = ["../.."] if given is None else [given] if isinstance(given, str) else given
    parts = [part for entry in entries for part in entry.split(",")]
    if not parts:
        raise BadParameterError("datetime", "datetime: the list is empty", hint="leave it out for all steps")
    try:
        ranges = [TimeRange.parse(part) for part in parts]
    except ValueError as error:
        raise BadParameterError("datetime", f"datetime: {error}") from None
    return axis.select(ranges, now or datetime.now(UTC))
