"""What a caller holds already (RFC 9110, section 13), and whether the cache is to do (RFC 9111)."""

from fastapi import Request
from starlette.exceptions import HTTPException


def etag_known(request: Request, tag: str) -> bool:
    """Tell whether the caller holds the content of this entity tag: ``If-None-Match``, compared weakly."""
    known = _tags(request, "if-none-match")
    return "*" in known or tag in {each.removeprefix("W/") for each in known}


def if_match_fails(request: Request, tag: str | None) -> bool:
    """Tell whether the caller wants other content than this: ``If-Match``, compared strongly.

    Args:
        request: the request.
        tag: the entity tag of what would be sent; None where it has none, which only ``*`` matches.
    """
    wanted = _tags(request, "if-match")
    return bool(wanted) and "*" not in wanted and tag not in wanted


def precondition_failed(tag: str | None) -> HTTPException:
    """Return the error of a request whose ``If-Match`` names other content."""
    now = "has no ETag" if tag is None else f"has ETag {tag}"
    return HTTPException(412, f"If-Match: none of its entity tags is that of the content, which {now}")


def only_if_cached(request: Request) -> bool:
    """Tell whether nothing is to be fetched: ``only-if-cached`` (RFC 9111, section 5.2.1.7)."""
    return any("only-if-cached" in line.lower() for line in request.headers.getlist("cache-control"))


def _tags(request: Request, name: str) -> list[str]:
    """Return the entity tags of a header, which may come in several lines."""
    return [
        tag for line in request.headers.getlist(name) for word in line.split(",") if (tag := word.strip())
    ]
