"""Refuses unknown query parameters, and bodies that are not JSON."""

import difflib
import typing
from collections import Counter
from collections.abc import Collection
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, model_validator
from starlette.exceptions import HTTPException

from icehouse_server.core.errors import BadParameterError

_MAX_MEMBERS = 1024
"""Members of a body, and of each list and table in it. Half a million wrong ones took 2 s to list."""


class Body(BaseModel):
    """The body of a request. What is too wide is refused before each of its members is looked at."""

    @model_validator(mode="before")
    @classmethod
    def _check_width(cls, body: object) -> object:
        if isinstance(body, dict):
            for part in (body, *body.values()):
                if isinstance(part, list | dict) and len(part) > _MAX_MEMBERS:
                    raise ValueError(f"a list or table in it has more than {_MAX_MEMBERS} members")
        return body


async def ignores_unknown_parameters() -> None:
    """Mark a route, as one of its dependencies, that ignores query parameters which it does not know.

    Clients of OGC services and of tiles send such of their own: ``?_=123`` against caches, ``service=``.
    A route that computes pixels or numbers is never marked: a typo in ``bbox`` would go unnoticed.
    """


LENIENT = Depends(ignores_unknown_parameters)


async def refuse_unread_parameters(request: Request) -> None:
    """Refuse unknown query parameters (as OGC API Common asks) and those that are given twice.

    Routes that are marked with ``LENIENT`` ignore the unknown ones, and so does what the API does not
    describe: the files of the page and of the API's pages.

    Raises:
        BadParameterError: there is one.
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    if not given:
        return
    route = request.scope["route"]
    known = _query_parameters(route.dependant)
    lenient = not route.include_in_schema or _is_marked(route.dependant)
    for name, times in given.items():
        if name not in known:
            if lenient:
                continue
            raise BadParameterError(
                name[:80], f"{name[:80]}: not a query parameter of this route", hint=_hint(name, known)
            )
        if times > 1 and not known[name]:
            raise BadParameterError(name, f"{name}: given {times} times", hint="give it once")


async def refuse_other_media_types(request: Request) -> None:
    """Refuse bodies that are not declared as JSON; a foreign page can send the others without asking us.

    No body at all needs no declaration.

    Raises:
        HTTPException: 415.
    """
    headers = request.headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if request.method == "POST" and media_type != "application/json" and (media_type or has_body):
        raise HTTPException(415, "the body must be JSON, with Content-Type: application/json")


def known_query(request: Request, *, without: Collection[str] = ()) -> str:
    """Return the query of a request with those parameters alone that its route knows, encoded."""
    known = _query_parameters(request.scope["route"].dependant).keys() - set(without)
    kept = [(name, value) for name, value in request.query_params.multi_items() if name in known]
    return urlencode(kept, quote_via=quote, safe=",:/")


def _is_marked(dependant: Dependant) -> bool:
    return any(inner.call is ignores_unknown_parameters for inner in dependant.dependencies)


def _query_parameters(dependant: Dependant) -> dict[str, bool]:
    """Return the names of the parameters, and whether one may be repeated: a list."""
    found = {field.alias: _is_list(field.field_info.annotation) for field in dependant.query_params}
    for inner in dependant.dependencies:
        found |= _query_parameters(inner)
    return found


def _is_list(annotation: object) -> bool:
    return any(typing.get_origin(arm) is list for arm in (annotation, *typing.get_args(annotation)))


def _hint(name: str, known: Collection[str]) -> str:
    if not known:
        return "it takes none"
    near = difflib.get_close_matches(name[:80].lower().replace("_", "-"), sorted(known), n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
