"""An exact geobox in a body: ``proj:wkt2``, ``proj:transform`` and ``proj:shape``."""

import math
import re
from typing import Annotated

from affine import Affine
from odc.geo.crs import CRS
from pydantic import Field

from icehouse_server.api.openapi.schemas import nullable
from icehouse_server.api.parameters import regions
from icehouse_server.api.parameters.level import Whole
from icehouse_server.api.parameters.size import MAX_CELLS
from icehouse_server.core.errors import BadBodyError
from icehouse_server.core.geometry.horizontal import is_map

_MAX_WKT = 20_000

Wkt = Annotated[
    str | None,
    Field(max_length=_MAX_WKT),
    nullable({"type": "string", "format": "wkt2", "maxLength": _MAX_WKT}),
]
Transform = Annotated[
    list[float] | None,
    nullable(
        {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 6,
            "maxItems": 9,
            "description": "a to f: x = a col + b row + c, y = d col + e row + f. Nine numbers also.",
            "examples": [[32, 0, -712064, 0, -32, 2650080]],
        }
    ),
]
Shape = Annotated[
    list[Whole] | None,
    nullable(
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": MAX_CELLS},
            "minItems": 2,
            "maxItems": 2,
            "description": "Rows, columns.",
            "examples": [[256, 256]],
        }
    ),
]

_WKT_STARTS = ("PROJCRS[", "GEOGCRS[", "BOUNDCRS[", "PROJCS[", "GEOGCS[")
_WKT_REFUSED = re.compile(r"EXTENSION|FILE|GRIDS|PROJ-BASED|PIPELINE|\+(PROJ|INIT|STEP)", re.IGNORECASE)
"""By these a WKT names a file, which PROJ opens wherever it lies, and waits for where it is a pipe."""


def parse_wkt(text: str) -> CRS:
    """Read the CRS of ``proj:wkt2``.

    Raises:
        BadBodyError: it can't be read, names a file, or is not a 2-D map.
    """
    text = text.strip()
    if not text.upper().startswith(_WKT_STARTS):
        raise BadBodyError("proj:wkt2", "proj:wkt2: must be WKT2 of a projected or geographic CRS")
    if _WKT_REFUSED.search(text):
        raise BadBodyError(
            "proj:wkt2",
            "proj:wkt2: must not name a file or a PROJ operation",
            hint="give a WKT2 without grids, or a code in proj:code",
        )
    try:
        crs = CRS(text)
    except Exception:  # noqa: BLE001 - whatever PROJ and odc-geo make of a broken WKT
        raise BadBodyError("proj:wkt2", "proj:wkt2: PROJ can't read it") from None
    if not is_map(crs):
        raise BadBodyError("proj:wkt2", "proj:wkt2: must be a 2-D projected or geographic CRS")
    return crs


def read_affine(numbers: list[float]) -> Affine:
    """Read ``proj:transform``."""
    right = "a, b, c, d, e, f, where x = a col + b row + c and y = d col + e row + f"
    if len(numbers) not in {6, 9} or not all(math.isfinite(number) for number in numbers):
        raise BadBodyError("proj:transform", "proj:transform: must be six finite numbers", hint=right)
    if numbers[6:] not in ([], [0, 0, 1]):
        raise BadBodyError("proj:transform", "proj:transform: numbers 7 to 9 must be 0, 0, 1", hint=right)
    affine = Affine(*numbers[:6])
    regions.check_affine(affine, "proj:transform")
    return affine


def read_shape(numbers: list[int]) -> tuple[int, int]:
    """Read ``proj:shape``."""
    if len(numbers) != 2 or not all(1 <= number <= MAX_CELLS for number in numbers):  # noqa: PLR2004
        raise BadBodyError("proj:shape", f"proj:shape: must be rows and columns, each from 1 to {MAX_CELLS}")
    return numbers[0], numbers[1]
