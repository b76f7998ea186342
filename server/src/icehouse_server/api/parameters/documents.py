"""The parameter ``f`` of documents that are JSON and nothing else: clients of OGC APIs send ``f=json``."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import WithJsonSchema

from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.core.errors import BadParameterError

_JSON = ("json", "application/json")
_LANDING = ("json", "html")

LandingFormat = Annotated[
    str | None,
    Query(alias="f", description="json or html; overrides Accept."),
    WithJsonSchema({"type": "string", "enum": list(_LANDING), "examples": ["json"]}),
]


async def takes_json(
    f: Annotated[
        str | None,
        Query(description="json: there is no other format."),
        WithJsonSchema({"type": "string", "enum": list(_JSON), "examples": ["json"]}),
    ] = None,
) -> None:
    """Take ``f=json``, and refuse other formats.

    Raises:
        BadParameterError: another one is asked for.
    """
    if f is not None and f not in _JSON:
        raise BadParameterError(
            "f", f"f: {f[:20]!r} is not a format of this document", hint="leave it out, or json"
        )


def check_landing_format(f: str | None) -> None:
    """Refuse formats that the landing page has not.

    Raises:
        BadParameterError: it is one.
    """
    if f is not None and f not in _LANDING:
        raise BadParameterError("f", f"f: {f[:20]!r} is not a format", hint=f"one of {', '.join(_LANDING)}")


TAKES_JSON = Depends(takes_json)
"""What routes depend on whose answer is JSON."""

DOCUMENT = (TAKES_JSON, LENIENT)
"""What routes depend on whose answer describes something, and is JSON."""
