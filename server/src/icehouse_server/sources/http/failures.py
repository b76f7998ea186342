"""What went wrong at a host, as errors of our tree."""

import aiohttp
import urllib3
from urllib3.exceptions import HTTPError

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceUnavailableError,
)
from icehouse_server.sources.http.urls import expiry_of, public

_RANGE_NOT_SATISFIABLE = 416
_PRECONDITION_FAILED = 412
_TRANSIENT = frozenset({408, 425, 429})
_FIRST_SERVER_ERROR = 500
_REFUSALS = frozenset({400, 401, 403})
"""What stores answer to a signature that is over; S3 answers 400 where its token is."""


class LinkExpiredError(SourceUnavailableError):
    """A signed link is not accepted any more: the same file is there under a newer one."""


def from_status(status: int, url: str, *, item: str = "", retry_after: float | None = None) -> SourceError:
    """Return the error for an HTTP status that is not a success."""
    href = public(url)
    if status == _PRECONDITION_FAILED:
        return SourceUnavailableError("the file changed while it was read", item=item, href=href)
    if status >= _FIRST_SERVER_ERROR or status in _TRANSIENT:
        return SourceUnavailableError(
            f"the source answered {status}", item=item, href=href, retry_after=retry_after
        )
    if status == _RANGE_NOT_SATISFIABLE:
        return SourceCorruptError("the file is shorter than its header says", item=item, href=href)
    if status in _REFUSALS and expiry_of(url) is not None:
        return LinkExpiredError(
            f"the source answered {status} to a signed link, which may have expired", item=item, href=href
        )
    hints = {
        401: "the source asks for credentials",
        403: "the source does not allow this",
        404: "the item exists, but its file does not",
    }
    return SourceRefusedError(
        f"the source answered {status}", item=item, href=href, hint=hints.get(status, "")
    )


def from_client(error: Exception, url: str, *, item: str = "") -> SourceError:
    """Return the error for what aiohttp raised while it asked for a URL, which its text must not repeat.

    What can't be distinguished is taken for transient: another try is bounded, a wrong "never" is not.
    """
    href = public(url)
    match error:
        case aiohttp.InvalidURL():
            return SourceRefusedError("the URL is malformed", item=item, href=href)
        case aiohttp.ClientConnectorError():
            detail = "the source can't be reached"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | ConnectionError():
            detail = "the source broke off its answer"
        case _:
            detail = f"the request failed: {type(error).__name__}"
    return SourceUnavailableError(detail, item=item, href=href)


def seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, 10.2.3) in either form, or None."""
    if retry_after is None:
        return None
    try:
        return max(0.0, urllib3.Retry().parse_retry_after(retry_after))
    except (HTTPError, ValueError, OverflowError):
        return None


def describe_error(error: Exception) -> str:
    """Return what a library's error may say of a document: texts of the network are not repeated."""
    return f"it lacks {error.args[0]!r}"[:80] if isinstance(error, KeyError) else type(error).__name__
