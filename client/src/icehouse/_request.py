"""One request for a region of a collection, and its JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icehouse._errors import BadParameter

if TYPE_CHECKING:
    import numpy as np

    from icehouse._geobox import GeoBox

    type Instant = str | dt.date | np.datetime64 | None
    type When = Instant | slice | Iterable[Instant | slice]
    type Resampling = str | Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One region of one collection: everything that the answer depends on."""

    geobox: GeoBox
    bands: tuple[str, ...] | None = None
    """In the order wanted; None is the default bands of the collection."""
    datetime: str | None = None
    """Instants and intervals, between commas; an interval is `start/end` with `..` for an open end."""
    level: int | None = None
    """To read from; None is the best for the geobox."""
    resampling: str | tuple[tuple[str, str], ...] | None = None
    """A GDAL name for all bands, or (band, name) pairs; None is each band's default."""
    fail_on_error: bool = True

    def to_body(self) -> bytes:
        """The JSON body of `POST .../coverage` and `POST .../plan`; what is None is left out."""
        document = self.geobox.to_json()
        if self.bands is not None:
            document["bands"] = list(self.bands)
        if self.datetime is not None:
            document["datetime"] = self.datetime
        if self.level is not None:
            document["level"] = self.level
        if self.resampling is not None:
            pairs = self.resampling
            document["resampling"] = pairs if isinstance(pairs, str) else dict(pairs)
        document["fail_on_error"] = self.fail_on_error
        return json.dumps(document).encode()


def make_query(
    geobox: GeoBox,
    *,
    bands: str | Sequence[str] | None,
    datetime: When,
    resampling: Resampling | None,
    level: int | None = None,
    fail_on_error: bool = True,
) -> Query:
    """Normalize the caller's arguments.

    Raises:
        BadParameter: bands is empty, or a time can't be read.
    """
    names = (bands,) if isinstance(bands, str) else None if bands is None else tuple(map(str, bands))
    if names is not None and not names:
        raise BadParameter("bands: must name at least one band; leave it out to get the default bands")
    if isinstance(resampling, Mapping):
        method: str | tuple[tuple[str, str], ...] | None = tuple(resampling.items())
    else:
        method = resampling
    return Query(
        geobox=geobox,
        bands=names,
        datetime=encode_datetime(datetime),
        level=level,
        resampling=method,
        fail_on_error=fail_on_error,
    )


def encode_datetime(when: When) -> str | None:
    """Times and intervals in the notation of OGC API and STAC.

    Args:
        when: a string (taken as it is), a date or datetime (naive ones are UTC), or a datetime64; a slice or
            a tuple (start, end), which is an interval, where None is an open end; a list, an array or an
            index of such, of which each is asked for.

    Raises:
        BadParameter: an empty list, a slice with a step, or something that is not a time.
    """
    if isinstance(when, slice):
        if when.step is not None:
            raise BadParameter(f"datetime: a slice must not have a step, got {when!r}")
        return f"{_instant(when.start)}/{_instant(when.stop)}"
    if isinstance(when, tuple):
        if len(when) != 2:  # noqa: PLR2004 - an interval
            raise BadParameter(f"datetime: a tuple is (start, end), got {len(when)} times; give a list")
        return encode_datetime(slice(*when))
    if isinstance(when, Iterable) and not isinstance(when, str):
        parts = [encode_datetime(part) for part in when]
        if not parts or None in parts:
            raise BadParameter("datetime: a list needs at least one time, and none of them None")
        return ",".join(map(str, parts))
    return None if when is None else _instant(when)


def _instant(when: Any) -> str:  # noqa: ANN401 - checked here
    if when is None or when == "":
        return ".."
    if isinstance(when, str):
        return when
    if isinstance(when, dt.datetime):
        utc = when.astimezone(dt.UTC) if when.tzinfo else when.replace(tzinfo=dt.UTC)
        return utc.isoformat().replace("+00:00", "Z")
    if isinstance(when, dt.date):
        return when.isoformat()
    if type(when).__name__ == "datetime64" and str(when) != "NaT":
        # Microseconds are what RFC 3339 readers agree on; str() of a datetime64 is ISO 8601 already.
        return f"{when.astype('datetime64[us]')}Z"
    raise BadParameter(f"datetime: expected a string, datetime or datetime64, got {when!r}")
