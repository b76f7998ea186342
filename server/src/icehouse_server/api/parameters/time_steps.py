"""The parameter ``datetime``."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.api.parameters.patterns import described
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.time import MOMENT, TimeRange

_BLANK = re.compile(r"(:\d\d(?:\.\d{1,9})?) (\d\d:\d\d)", re.ASCII)
"""The plus of ``T00:00:00+00:00`` where it was not encoded in a query: there it means a blank."""
_TIME = f"({MOMENT.pattern})".replace("[+-]", "[ +-]")
_RANGE = f" *({_TIME}|({_TIME}|[.][.])/({_TIME}|[.][.])|{_TIME}/|/{_TIME}) *"

SCHEMA: Schema = {
    "type": "string",
    "format": "datetime-ranges",
    "pattern": described(f"{_RANGE}(,{_RANGE})*"),
    "examples": ["2020", "2019-06-01/..", "2018,2020"],
}

DatetimeText = Annotated[str | None, WithJsonSchema(SCHEMA)]
"""Time steps in a query; what it means to leave them out, each route says."""

Datetime = Annotated[
    DatetimeText,
    Query(
        description="Instant, or start/end with .. for open; several between commas. All steps when left out."
    ),
]
DatetimeList = Annotated[
    str | list[str] | None,
    nullable(
        {
            "anyOf": [SCHEMA, {"type": "array", "items": SCHEMA, "minItems": 1}],
            "description": "Instants and intervals; all time steps when left out.",
        }
    ),
]
"""``datetime`` in a body."""


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
    parts = [_BLANK.sub(r"\1+\2", part) for entry in entries for part in entry.split(",")]
    if not parts:
        raise BadParameterError("datetime", "datetime: the list is empty", hint="leave it out for all steps")
    try:
        ranges = [TimeRange.parse(part) for part in parts]
    except ValueError as error:
        raise BadParameterError("datetime", f"datetime: {error}") from None
    return axis.select(ranges, now or datetime.now(UTC))
