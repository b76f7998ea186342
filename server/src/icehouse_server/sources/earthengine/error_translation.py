"""What went wrong at Earth Engine, as errors of our tree.

Its library raises one class with a text; the status is in the exception that it was made from. A
connection that fails comes as ConnectionError or TimeoutError.
"""

import re

from icehouse_server.core.errors import (
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.http.failures import seconds_of

HOW_TO = "docs/how-to/earth-engine.md says how to set up access"

_SHOWN = 300
"""Characters of a message that an error repeats."""
_TOO_MUCH = re.compile(
    r"user memory limit exceeded|computation timed out|total request size|too large|too many pixels|"
    r"payload size exceeds|response size|pixel grid dimensions",
    re.IGNORECASE,
)
_BUSY = re.compile(
    r"too many requests|quota exceeded|rate ?limit|too many concurrent|capacity exceeded|internal error|"
    r"try again|deadline exceeded|service unavailable",
    re.IGNORECASE,
)
_MISSING = re.compile(r"not found|does not exist|denied on resource", re.IGNORECASE)
_PROJECT = re.compile(r"no project|project", re.IGNORECASE)
_CREDENTIALS = {"RefreshError", "DefaultCredentialsError", "MalformedError", "InvalidOperation"}
_TRANSIENT = frozenset({408, 425, 429})
_TOO_LARGE, _FIRST_SERVER_ERROR = 413, 500
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


class TooMuchError(Exception):
    """Earth Engine can't compute this much in one request; less of it may do."""


def explained(error: BaseException, asset: str) -> SourceError | TooMuchError:
    """Return what an exception of Earth Engine's library, or of what it uses, means.

    What can't be distinguished is taken for transient: another try is bounded, a wrong "never" is not.

    Args:
        error: what was raised.
        asset: id of what was asked for.
    """
    if isinstance(error, SourceError | TooMuchError):
        return error
    if isinstance(error, TimeoutError):
        return SourceTimeoutError("Earth Engine did not answer in time")
    if isinstance(error, ConnectionError):
        return SourceUnavailableError("the connection to Earth Engine broke off")
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"EEException", "HttpError"}:
        return _from_message(error, asset)
    # Those of google.auth say themselves whether they are worth another try.
    if names & _CREDENTIALS and not getattr(error, "retryable", False):
        return _unauthorized(str(error.args[0]) if error.args else "")
    return SourceUnavailableError(f"Earth Engine's library failed: {type(error).__name__}")


def _from_message(error: BaseException, asset: str) -> SourceError | TooMuchError:
    """Return what a message of Earth Engine means."""
    cause = error if hasattr(error, "resp") else error.__context__
    response = getattr(cause, "resp", None)
    status = int(getattr(response, "status", 0) or 0)
    reason = getattr(cause, "reason", None) if cause is error else None
    text = " ".join(str(reason or error).split())[:_SHOWN]
    if status == _TOO_LARGE or _TOO_MUCH.search(text):
        return TooMuchError(text)
    if status in _TRANSIENT or status >= _FIRST_SERVER_ERROR or _BUSY.search(text):
        wait = seconds_of(response.get("retry-after")) if response is not None else None
        return SourceUnavailableError(
            f"Earth Engine answered {status or 'with an error'}: {text}", retry_after=wait
        )
    if status == _UNAUTHORIZED or (not status and "authori" in text):
        return _unauthorized(text)
    if _MISSING.search(text) or status == _NOT_FOUND:
        return SourceRefusedError(
            f"Earth Engine has no asset {asset!r}, or does not let this account read it: {text}",
            href=f"earthengine:{asset}",
            hint="look at its id, and share it with the account",
        )
    if status == _FORBIDDEN or (not status and _PROJECT.search(text)):
        return SourceRefusedError(
            f"Earth Engine does not let this account use this project: {text}",
            hint=f"set earthengine_project to a project that is registered for Earth Engine; {HOW_TO}",
        )
    return SourceRefusedError(
        f"Earth Engine can't compute this: {text}",
        href=f"earthengine:{asset}",
        hint="look at [source] and [bands.source] of the collection file",
    )


def _unauthorized(text: str) -> SourceRefusedError:
    detail = " ".join(text.split())[:_SHOWN]
    return SourceRefusedError(
        f"Earth Engine asks for credentials: {detail}" if detail else "Earth Engine asks for credentials",
        hint="run `earthengine authenticate` as the user that runs the daemon, or set "
        f"earthengine_credentials to the path of a service account's key file; {HOW_TO}",
    )
