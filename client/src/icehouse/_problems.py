"""Turns a problem document of the daemon into the error that the caller sees."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from icehouse import _errors as errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icehouse._transport import Response

_KINDS: Mapping[str, type[errors.IcehouseError]] = {
    "bad-parameter": errors.BadParameter,
    "bad-body": errors.BadParameter,
    "bad-request": errors.BadParameter,
    "headers-too-large": errors.BadParameter,
    "method-not-allowed": errors.BadParameter,
    "precondition-failed": errors.BadParameter,
    "request-timeout": errors.BadParameter,
    "range-not-satisfiable": errors.BadParameter,
    "unsupported-media-type": errors.BadParameter,
    "not-acceptable": errors.BadParameter,
    "unknown-collection": errors.NotFound,
    "unknown-band": errors.NotFound,
    "unknown-time": errors.NotFound,
    "unknown-snapshot": errors.NotFound,
    "unknown-job": errors.NotFound,
    "unknown-key": errors.NotFound,
    "unknown-style": errors.NotFound,
    "unknown-tms": errors.NotFound,
    "not-found": errors.NotFound,
    "too-large": errors.TooLarge,
    "outside-collection": errors.OutsideCollection,
    "source-refused": errors.SourceFailed,
    "source-corrupt": errors.SourceFailed,
    "source-failed": errors.SourceFailed,
    "source-unavailable": errors.SourceFailed,
    "chunks-failed": errors.SourceFailed,
    "source-timeout": errors.SourceTimeout,
    "deadline-exceeded": errors.SourceTimeout,
    "not-cached": errors.NotCached,
    "busy": errors.Busy,
    "fetch-budget": errors.Busy,
    "shutting-down": errors.Busy,
    "disk-full": errors.DiskFull,
    "host-refused": errors.NotAllowed,
    "not-allowed": errors.NotAllowed,
    "unauthorized": errors.NotAllowed,
    "cross-site-refused": errors.NotAllowed,
}
REQUEST_ID = "icehouse-request-id"
"""The response header with the id by which the daemon's log names the request."""

_STATUS_BUSY = 503
_STATUS_SERVER = 500


def error_of(answer: Response, url: str) -> errors.IcehouseError:
    """The error that an answer with a status of 400 or more stands for.

    Args:
        answer: the whole answer.
        url: what was asked, for the message.
    """
    problem = _problem_of(answer)
    if problem is None:
        return _without_problem(answer, url)
    _note_retry_after(problem, answer)
    kind = str(problem.get("kind", "unknown"))
    return _KINDS.get(kind, errors.ServerError)(
        _sentence(problem),
        kind=kind,
        status=answer.status,
        detail=str(problem.get("detail") or problem.get("title") or kind),
        problem=problem,
        request_id=answer.header(REQUEST_ID),
    )


def _problem_of(answer: Response) -> dict[str, Any] | None:
    if "json" not in answer.header("content-type"):
        return None
    try:
        problem = json.loads(bytes(answer.body))
    except (ValueError, RecursionError):
        return None
    return problem if isinstance(problem, dict) and "kind" in problem else None


def _note_retry_after(problem: dict[str, Any], answer: Response) -> None:
    # The header is what HTTP promises; the document may leave the number out.
    value = problem.pop("retry_after", answer.header("retry-after"))
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return  # an HTTP date, or nothing: the client then waits as it sees fit
    if 0 <= seconds < math.inf:
        problem["retry_after"] = seconds


def _sentence(problem: Mapping[str, Any]) -> str:
    title, detail, hint = (str(problem.get(name) or "") for name in ("title", "detail", "hint"))
    head = f"{title}: {detail}" if title and detail and title != detail else detail or title
    return " ".join(part for part in (head or str(problem["kind"]), hint) if part)


def _without_problem(answer: Response, url: str) -> errors.IcehouseError:
    text = bytes(answer.body[:200]).decode("utf-8", "replace").strip()
    said = f": {text}" if text else ""
    if answer.status == _STATUS_BUSY:
        problem: dict[str, Any] = {}
        _note_retry_after(problem, answer)
        return errors.Busy(f"{url} answered 503{said}", status=_STATUS_BUSY, problem=problem)
    if answer.status >= _STATUS_SERVER:
        return errors.ServerError(f"{url} answered {answer.status}{said}", status=answer.status)
    return errors.ProtocolError(
        f"{url} answered {answer.status} without saying why in a problem document; "
        f"is an Icehouse daemon listening there?{said}",
        status=answer.status,
    )
