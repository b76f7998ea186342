"""Numbers of a parameter: finite, in decimal notation, between commas."""

import math
import re
from collections.abc import Sequence

from icehouse_server.api.parameters.patterns import NUMBER
from icehouse_server.core.errors import BadParameterError

_NUMBER = re.compile(NUMBER)
_BLANK = re.compile(r"(?<=\d[eE]) (?=\d)", re.ASCII)
"""The plus of ``1e+6`` where it was not encoded in a query: there it means a blank."""


def parse_numbers(text: str, parameter: str, counts: Sequence[int]) -> list[float]:
    """Read finite numbers between commas.

    Raises:
        BadParameterError: not numbers, not finite, or not as many as wanted.
    """
    wanted = " or ".join(str(count) for count in counts)
    parts = [_BLANK.sub("+", part.strip(" ")) for part in text.split(",")]
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
