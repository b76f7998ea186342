"""TOML documents as users write them."""

import tomllib
from typing import Any

_LONGEST = 200
"""Characters of a parser's message that an error repeats."""


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
