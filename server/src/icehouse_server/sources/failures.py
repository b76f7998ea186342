"""What went wrong at a host, as errors of our tree."""

import re

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.urls import public

_STATUS = re.compile(r"\bstatus: (\d{3})\b")
"""How obstore 0.12 writes the status into the debug part of its message; it has no attribute for it."""

_KIND = re.compile(r"\bkind: (Timeout|Interrupted|Connect|Request|Decode|Unknown)\b")

_URL = re.compile(r"https?://[^\s\"')]+")

_RANGE_NOT_SATISFIABLE = 416
_PRECONDITION_FAILED = 412
_TRANSIENT = frozenset({408, 425, 429})
_FIRST_SERVER_ERROR = 500


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
    hints = {
        401: "the source asks for credentials",
        403: "the source does not allow this",
        404: "the item exists, but its file does not",
    }
    return SourceRefusedError(
        f"the source answered {status}", item=item, href=href, hint=hints.get(status, "")
    )


def from_obstore(error: Exception, url: str, *, item: str = "") -> SourceError:
    """Return the error for what obstore raised.

    obstore has classes for a few statuses only; the others, and what happened to a connection, stand in the
    text of a ``GenericError``. Headers, Retry-After among them, can't be had. What can't be told is taken for
    transient: another try is bounded, a wrong "never" is not.
    """
    text = str(error)
    href = public(url)
    if type(error).__name__ == "NotSupportedError":
        return SourceRefusedError(
            "the source does not answer range requests (a page in place of the file, or a plain server)",
            item=item,
            href=href,
        )
    if status := _STATUS.search(text):
        return from_status(int(status.group(1)), url, item=item)
    kind = _KIND.search(text)
    match kind.group(1) if kind else "":
        case "Timeout":
            return SourceTimeoutError("the source did not answer in time", item=item, href=href)
        case "Interrupted":
            detail = "the source broke off its answer"
        case "Connect":
            detail = "the source can't be reached"
        case _:
            first = _URL.sub("(its URL)", text.partition("\n")[0])  # it may be a signed one
            detail = f"the request failed: {first[:200]}"
    return SourceUnavailableError(detail, item=item, href=href)
