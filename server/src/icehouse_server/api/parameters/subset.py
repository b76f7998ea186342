"""The parameters ``subset`` and ``subset-crs`` of OGC API Coverages: a range or a point on each axis."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query
from odc.geo.crs import CRS
from pydantic import WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema
from icehouse_server.api.parameters import regions
from icehouse_server.api.parameters.bbox import Bounds
from icehouse_server.api.parameters.crs import CrsText, parse_crs
from icehouse_server.api.parameters.numbers import parse_number
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError, OutsideError
from icehouse_server.core.time import TimeAxis, TimeRange, parse_moment, written

_AXES = {
    **dict.fromkeys(("e", "x", "easting"), "E"),
    **dict.fromkeys(("n", "y", "northing"), "N"),
    **dict.fromkeys(("lon", "long", "longitude"), "Lon"),
    **dict.fromkeys(("lat", "latitude"), "Lat"),
    **dict.fromkeys(("time", "t"), "time"),
}
"""Axes by their names and aliases, in lower case."""

_PART = re.compile(r'\s*([A-Za-z][A-Za-z0-9_]{0,31})\(((?:"[^"]{0,80}"|[^"()])*)\)\s*')
_VALUE = '"[^"]{0,80}"|[^":]{1,80}'
_RANGE = re.compile(f"({_VALUE})(?::({_VALUE}))?")
_MIDNIGHT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ]24:00(?::00(?:[.]0+)?)?([Zz]|[+-]\d\d:\d\d)?")
_MOST = 8
"""Parts that are read: there are three axes."""

_SCHEMA: Schema = {
    "type": "array",
    "items": {"type": "string", "format": "subset", "minLength": 4},
    "maxItems": _MOST,
    "examples": [["Lon(150:150.1),Lat(65:65.05)"]],
}

SubsetTexts = Annotated[
    list[str] | None,
    Query(
        description="Ranges axis(low:high) or points axis(value), between commas, of Lon, Lat (E, N with a "
        'projected subset-crs) and time("2020-01-01"); * is the end of an axis. May be repeated. A point is '
        "one cell. Not together with bbox, or with datetime."
    ),
    WithJsonSchema(_SCHEMA),
]
SubsetCrs = Annotated[
    CrsText, Query(alias="subset-crs", description="CRS of the spatial axes of subset; CRS84 by default.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisRange:
    """What is asked for of an axis, as text without quotes; None is its end."""

    low: str | None
    high: str | None
    point: bool

    def numbers(self, name: str, ends: tuple[float, float]) -> tuple[float, float]:
        """Return both ends as numbers.

        Args:
            name: of the axis.
            ends: of the collection along it.

        Raises:
            BadParameterError: one is not a number.
        """
        found = [
            end if text is None else parse_number(text, "subset")
            for text, end in zip((self.low, self.high), ends, strict=True)
        ]
        if self.point and self.low is None:
            raise BadParameterError(
                "subset", f"subset: {name}(*) is not a place", hint=f"such as {name}(10:*)"
            )
        return found[0], found[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """What ``subset`` asks for, by axis."""

    axes: Mapping[str, AxisRange] = field(default_factory=dict)

    @property
    def spatial(self) -> bool:
        """Whether it names a part of space."""
        return bool(self.axes.keys() - {"time"})

    def datetime_or(self, given: str | None, axis: TimeAxis | None) -> str | None:
        """Return the time that it asks for as ``datetime`` has it, or that parameter.

        Args:
            given: ``datetime``.
            axis: of the collection, whose last step ``time(*)`` is; None where it has none.

        Raises:
            BadParameterError: both are given, or it is not a time.
        """
        asked = self.axes.get("time")
        if asked is None:
            return given
        if axis is None:
            raise BadParameterError(
                "subset", "subset: the collection has no time axis", hint="leave time out"
            )
        if given is not None:
            raise BadParameterError("subset", "subset: give time in it, or datetime, not both")
        if asked.point:
            return _latest(axis) if asked.low is None else _moment(asked.low)
        low = ".." if asked.low is None else _moment(asked.low)
        return f"{low}/{'..' if asked.high is None else _end(asked.high)}"

    def bounds(
        self, spec: CollectionSpec, crs_text: str | None, target: CRS, *, sized: bool
    ) -> tuple[Bounds, CRS]:
        """Return the rectangle, and its CRS.

        Args:
            spec: the collection, whose ends ``*`` stands for.
            crs_text: ``subset-crs``.
            target: CRS of the answer.
            sized: whether the answer's size is given, which no point has.

        Raises:
            BadParameterError: an axis that the CRS does not have, or ends that are not in order.
            OutsideError: it lies beyond the poles.
        """
        crs = parse_crs("CRS84" if crs_text is None else crs_text, "subset-crs")
        names = ("Lon", "Lat") if crs.geographic else ("E", "N")
        self._check(names, crs, target, sized=sized)
        whole = _extent(spec, crs)
        west, east = self._ends(names[0], (whole.west, whole.east))
        south, north = self._ends(names[1], (whole.south, whole.north))
        if crs.geographic:
            if max(abs(west), abs(east)) > 360:  # noqa: PLR2004 - a turn
                raise OutsideError("the region lies outside the collection")
            east += 360 if west > east else 0
            if south > 90 or north < -90:  # noqa: PLR2004 - the poles
                raise OutsideError("the region lies outside the collection")
            south, north = max(south, -90.0), min(north, 90.0)
        for name, low, high in ((names[0], west, east), (names[1], south, north)):
            if low > high:
                raise BadParameterError("subset", f"subset: {name}: {low:g} is above {high:g}")
        return Bounds(west=west, south=south, east=east, north=north), crs

    def _ends(self, name: str, ends: tuple[float, float]) -> tuple[float, float]:
        asked = self.axes.get(name)
        return ends if asked is None else asked.numbers(name, ends)

    def _check(self, names: tuple[str, str], crs: CRS, target: CRS, *, sized: bool) -> None:
        for name in self.axes.keys() - {"time", *names}:
            raise BadParameterError(
                "subset",
                f"subset: {name} is not an axis of {crs}, which has {' and '.join(names)}",
                hint="subset-crs says in which CRS the axes are",
            )
        points = [name for name in names if name in self.axes and self.axes[name].point]
        if points and sized:
            raise BadParameterError(
                "subset", f"subset: {points[0]} is a point: width, height and resolution don't go with it"
            )
        if len(points) == 1 and crs != target:
            raise BadParameterError(
                "subset",
                f"subset: {points[0]} alone is a line in {crs}, which is not a row or column of the answer",
                hint="give both axes as points, or subset-crs and crs alike",
            )


def read_subset(texts: Sequence[str] | None, crs_text: str | None) -> Subset:
    """Read ``subset``, given once or several times.

    ``subset-crs`` has no effect where no spatial axis is named (OGC says so), but it must be a CRS.

    Raises:
        BadParameterError: it is malformed, or names an axis twice or one that there is not.
    """
    if crs_text is not None:
        parse_crs(crs_text, "subset-crs")
    axes: dict[str, AxisRange] = {}
    for text in texts or ():
        for name, written_range in _parts(text):
            axis = _AXES.get(name.lower())
            if axis is None:
                raise BadParameterError(
                    "subset", f"subset: {name!r} is not an axis", hint="there are Lon, Lat, E, N and time"
                )
            if axis in axes:
                raise BadParameterError("subset", f"subset: {axis} is given twice", hint="give it once")
            axes[axis] = _range(axis, written_range)
    return Subset(axes=axes)


def _parts(text: str) -> list[tuple[str, str]]:
    """Return axes and what is in their brackets."""
    found: list[tuple[str, str]] = []
    place = 0
    while len(found) < _MOST:
        part = _PART.match(text, place)
        if part is None:
            break
        found.append((part[1], part[2]))
        if part.end() == len(text):
            return found
        if text[part.end()] != ",":
            break
        place = part.end() + 1
    raise BadParameterError(
        "subset",
        f"subset: {text[:80]!r} is not a list of axis(low:high) or axis(value)",
        hint='such as Lon(150:150.1),Lat(65:*),time("2020-01-01":"2020-12-31")',
    )


def _range(axis: str, text: str) -> AxisRange:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise BadParameterError(
            "subset",
            f"subset: {axis}({text[:40]}) is neither a value nor low:high",
            hint="write times in double quotes",
        )
    low, high = (None if part is None or part.strip() == "*" else part.strip() for part in found.groups())
    point = found[2] is None
    for part in (low, high):
        if part is not None and part.startswith('"') != (axis == "time"):
            wanted = "a time in double quotes" if axis == "time" else "a number"
            raise BadParameterError("subset", f"subset: {axis}({text[:40]}): {wanted} was expected")
    low, high = (None if part is None else part.strip('"') for part in (low, high))
    return AxisRange(low=low, high=low if point else high, point=point)


def _latest(axis: TimeAxis) -> str:
    count = axis.count(datetime.now(UTC))
    return written(axis.step(count - 1).start) if count else "../.."


def _moment(text: str) -> str:
    """Return the moment of a text: what is left out of it is zero."""
    try:
        midnight = _MIDNIGHT.fullmatch(text)
        if midnight is None:
            return written(parse_moment(text))
        return written(parse_moment(f"{midnight[1]}T00:00:00{midnight[2] or 'Z'}") + timedelta(days=1))
    except (ValueError, OverflowError) as error:
        raise BadParameterError("subset", f"subset: time: {error}") from None


def _end(text: str) -> str:
    """Return the last moment of a text that ends a range: hour 24 itself is not part of it."""
    if _MIDNIGHT.fullmatch(text):
        return written(parse_moment(_moment(text)) - timedelta(microseconds=1))
    try:
        end = TimeRange.parse(f"../{text}").end
    except ValueError as error:
        raise BadParameterError("subset", f"subset: time: {error}") from None
    return ".." if end is None else written(end)


def _extent(spec: CollectionSpec, crs: CRS) -> Bounds:
    """Return the extent of a collection in a CRS."""
    if crs.geographic:
        west, south, east, north = spec.bbox
        return Bounds(west=west, south=south, east=east + (360 if west > east else 0), north=north)
    box = spec.grid.geobox.boundingbox
    own = Bounds(west=box.left, south=box.bottom, east=box.right, north=box.top)
    return regions.project(own, spec.grid.crs, crs)
