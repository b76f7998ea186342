"""What a search asks for, as the stand-ins of STAC APIs read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request


async def asked(request: Request) -> dict[str, Any]:
    """What a search by GET or POST asks for.

    Raises:
        HTTPException: 400, the body is not a JSON object.
    """
    if request.method != "POST":
        return asked_by_query(request)
    try:
        found = json.loads(await request.body())
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return found


def asked_by_query(request: Request) -> dict[str, Any]:
    """What the parameters of a URL ask for; lists stand between commas."""
    found: dict[str, Any] = dict(request.query_params)
    for key in ("bbox", "ids", "collections"):
        if key in found:
            found[key] = found[key].split(",")
    return found
