"""The size of an answer: the parameters ``width``, ``height`` and ``resolution``."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from pydantic import Field, WithJsonSchema

from icehouse_server.api.openapi.schemas import Schema, nullable
from icehouse_server.api.parameters.numbers import parse_numbers
from icehouse_server.api.parameters.patterns import SPACED_NUMBER, WHOLE
from icehouse_server.core.errors import BadParameterError

MAX_CELLS = 1_000_000

CELLS: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_CELLS, "examples": [256]}
RESOLUTION: Schema = {
    "type": "string",
    "format": "resolution",
    "pattern": f"^{SPACED_NUMBER}(,{SPACED_NUMBER})?$",
    "examples": ["100"],
}

Width = Annotated[str | None, Query(description="Output columns."), WithJsonSchema(CELLS)]
Height = Annotated[str | None, Query(description="Output rows."), WithJsonSchema(CELLS)]
Resolution = Annotated[
    str | None,
    Query(description="Cell size in units of crs: one number, or x,y. Not with width and height."),
    WithJsonSchema(RESOLUTION),
]
CellSize = Annotated[
    float | None,
    Field(gt=0, allow_inf_nan=False),
    nullable(
        {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Cell size in units of crs where no exact geobox is given.",
            "examples": [100],
        }
    ),
]
"""``resolution`` in a body."""


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


def parse_cells(text: str | None, parameter: str) -> int | None:
    """Read a number of output cells.

    Raises:
        BadParameterError: not a whole number from 1 to a million.
    """
    if text is None:
        return None
    if not WHOLE.fullmatch(text) or not 1 <= int(text) <= MAX_CELLS:
        raise BadParameterError(
            parameter, f"{parameter}: {text[:40]!r} is not a whole number from 1 to {MAX_CELLS}"
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
