"""Patterns that a parser and the API description share: written once, for both dialects."""

import re

NUMBER = r"[+-]?([0-9]{1,40}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,3})?"
"""A decimal number: ``float`` alone takes NaN, underscores, spaces and the digits of every script."""

SPACED_NUMBER = f" *{NUMBER} *"

WHOLE = re.compile("[0-9]{1,7}")


def described(pattern: str) -> str:
    """Return a pattern as JSON Schema has it (ECMA-262): no named groups, ASCII digits alone."""
    plain = re.sub("[?]P<[a-z]+>", "", pattern).replace(r"\d", "[0-9]")
    return f"^({plain})$" if "|" in plain else f"^{plain}$"
