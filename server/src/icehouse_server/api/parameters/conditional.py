"""What a caller holds already (RFC 9110, section 13), and whether the cache is to do (RFC 9111)."""

from fastapi import Request


def etag_known(request: Request, tag: str) -> bool:
    """Tell whether the caller holds the content of this entity tag: ``If-None-Match``, compared weakly."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in known.split(",")}


def only_if_cached(request: Request) -> bool:
    """Tell whether nothing is to be fetched: ``only-if-cached`` (RFC 9111, section 5.2.1.7)."""
    return "only-if-cached" in request.headers.get("cache-control", "").lower()
