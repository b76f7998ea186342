"""TOML documents as users write them, and values as TOML has them."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 200
"""Characters of a parser's message that an error repeats."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PLAIN_KEY = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class NotTomlError(Exception):
    """A text that is not TOML."""


def read_toml(text: str) -> dict[str, Any]:
    """Read a TOML document.

    Raises:
        NotTomlError: it is none, or nests deeper or holds longer numbers than can be read.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise NotTomlError("it nests too deep") from None
    except ValueError as error:  # TOMLDecodeError is one; dates and numbers out of bounds are others
        raise NotTomlError(str(error)[:_LONGEST]) from None


def toml_value(value: object) -> str:
    """Return a value as TOML, on one line: texts, numbers, booleans, lists of them, and tables.

    Raises:
        TypeError: TOML has no such value.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return f'"{"".join(map(_escaped, value))}"'
        case Mapping():
            inside = ", ".join(f"{toml_key(str(key))} = {toml_value(one)}" for key, one in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case Sequence():
            return f"[{', '.join(map(toml_value, value))}]"
        case _:
            raise TypeError(f"TOML has no {type(value).__name__}")


def toml_key(name: str) -> str:
    """Return the name of a key, in quotes where it needs them."""
    return name if name and set(name) <= _PLAIN_KEY else toml_value(name)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)  # nan, inf and -inf, as TOML has them
    return str(int(value)) + ".0" if value.is_integer() and abs(value) < 1e15 else repr(value)  # noqa: PLR2004


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    if 0xD800 <= ord(character) <= 0xDFFF:  # noqa: PLR2004 - half of a pair: no TOML document holds one
        return "\N{REPLACEMENT CHARACTER}"
    return f"\\u{ord(character):04X}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08X}"  # noqa: PLR2004
