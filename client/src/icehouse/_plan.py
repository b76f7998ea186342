"""Results that are not rasters: plans and values at points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from icehouse._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWindow:
    """A pixel rectangle of the collection's own grid."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChunks:
    """How many chunks a request needs, by state; void ones are known to hold nothing."""

    needed: int
    present: int
    absent: int
    void: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a load would need and cost. Making a plan fetches nothing."""

    collection: str
    snapshot: str
    """Icechunk snapshot that the plan looked at."""
    bands: tuple[str, ...]
    datetime: tuple[str, ...] | None
    """The time steps as `start/end`; None where the collection has no time axis."""
    level: int
    """Level that would be read: 0 is the full resolution, each further one halves it."""
    window: PlanWindow | None
    """The part of the grid at that level that would be read; None where the region lies outside."""
    chunks: PlanChunks
    estimated_source_bytes: int
    """Bytes that would be asked of the remote source."""
    output_bytes: int
    """Bytes of pixels that the answer would hold."""
    aligned: bool
    """Whether the geobox lies on the collection's grid, so that pixels are copied and not resampled."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:  # Any: JSON
        """Read the daemon's answer; members this version does not know are ignored.

        Raises:
            ProtocolError: a member is missing or of the wrong type.
        """
        try:
            window = document["window"]
            return cls(
                collection=document["collection"],
                snapshot=document["snapshot"],
                bands=tuple(document["bands"]),
                datetime=_steps(document),
                level=int(document.get("level", 0)),
                window=None if window is None else PlanWindow(**_ints(window, PlanWindow)),
                chunks=PlanChunks(**_ints(document["chunks"], PlanChunks)),
                estimated_source_bytes=int(document["estimated_source_bytes"]),
                output_bytes=int(document["output_bytes"]),
                aligned=bool(document["aligned"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the plan has an unexpected format: {error!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Band values at one point."""

    coordinates: tuple[float, float]
    """(x, y) in `crs`."""
    crs: str
    values: dict[str, Any]
    """Band name to value; None where the collection has no valid pixel. A list of them along `datetime` where
    the collection has a time axis."""
    datetime: tuple[str, ...] | None = None
    """The time steps as `start/end`; None where the collection has no time axis."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:  # Any: JSON
        """Read the daemon's answer.

        Raises:
            ProtocolError: a member is missing or of the wrong type.
        """
        try:
            x, y = document["coordinates"]
            return cls(
                coordinates=(x, y),
                crs=document["crs"],
                values=dict(document["values"]),
                datetime=_steps(document),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the point has an unexpected format: {error!r}") from error


def _steps(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    steps = document.get("datetime")
    return None if steps is None else tuple(map(str, steps))


def _ints(document: Mapping[str, Any], cls: type) -> dict[str, int]:
    return {name: int(document[name]) for name in cls.__slots__}  # type: ignore[attr-defined]
