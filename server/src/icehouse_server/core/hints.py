"""Parts of error messages: values as they are repeated, and the nearest known word."""

import difflib
from collections.abc import Mapping

_LONGEST = 200
"""Characters of a value that a message repeats."""


def shortened(value: object) -> str:
    """Return a value as a message repeats it: not longer than helps."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def guess(word: str, known: Mapping[str, object] | list[str]) -> str:
    """Return a hint that names the nearest known word, or all of them."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
