"""The parameter ``level``."""

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.api.parameters.patterns import WHOLE
from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.errors import BadParameterError

SCHEMA: Schema = {"type": "integer", "minimum": 0, "maximum": 40, "examples": [0]}


def _whole(value: object) -> object:
    """Read 8.0 as 8: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number of a body."""

LevelText = Annotated[str | None, WithJsonSchema(SCHEMA)]
"""A level in a query; what it means to leave it out, each route says."""

LevelNumber = Annotated[Whole | None, nullable(SCHEMA)]
"""``level`` in a body."""


def parse_level(given: str | int | None, spec: CollectionSpec) -> int | None:
    """Read a level; None where none is given.

    Raises:
        BadParameterError: it is not a whole number, or the collection has no such level.
    """
    if given is None:
        return None
    last = len(spec.grids) - 1
    text = str(given)
    if not WHOLE.fullmatch(text) or int(text) > last:
        raise BadParameterError(
            "level",
            f"level: {text[:40]!r} is not a whole number from 0 to {last}",
            hint="0 is the full resolution; each further level halves it",
        )
    return int(text)
