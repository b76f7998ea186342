"""What a caller holds already, by its entity tag (RFC 9110, section 13)."""

from fastapi import Request


def etag_known(request: Request, tag: str) -> bool:
    """Tell whether the caller holds the content of this entity tag: ``If-None-Match``, compared weakly."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in known.split(",")}
