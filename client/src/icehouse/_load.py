"""One load: ask, receive, decode, build."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from icehouse._dataset import build
from icehouse._errors import IcehouseError, ProtocolError
from icehouse._problems import REQUEST_ID
from icehouse._progress import Progress
from icehouse._wire import decode

if TYPE_CHECKING:
    import xarray as xr

    from icehouse._plan import Plan
    from icehouse._progress import ProgressCallback
    from icehouse._request import Query
    from icehouse._session import Session
    from icehouse._transport import Deadline, Response
    from icehouse._wire import WireGroup

_log = logging.getLogger("icehouse")
_ZARR = "application/vnd.zarr; version=3"
_OK = 200


def load_query(
    session: Session,
    collection: str,
    query: Query,
    *,
    on_progress: ProgressCallback | None,
    timeout: float | None,
) -> xr.Dataset:
    """Load a region as a dataset; see `Collection.load`."""
    return build(fetch(session, collection, query, on_progress=on_progress, timeout=timeout))


def fetch(
    session: Session,
    collection: str,
    query: Query,
    *,
    on_progress: ProgressCallback | None = None,
    timeout: float | None = None,
) -> WireGroup:
    """Load a region as plain arrays.

    Raises:
        IcehouseError: see its subclasses.
    """
    deadline = session.deadline(timeout)
    if on_progress is None:
        answer = session.post(collection, "coverage", query, accept=_ZARR, deadline=deadline)
    else:
        answer = _post_with_progress(session, collection, query, on_progress, deadline)
    if answer.status != _OK:
        raise ProtocolError(
            f"expected a raster, got status {answer.status}",
            status=answer.status,
            request_id=answer.header(REQUEST_ID),
        )
    failed = answer.header("icehouse-failed-chunks")
    if failed not in {"", "0"}:
        name = answer.header(REQUEST_ID) or "unknown"
        _log.warning(
            "%s: %s chunks failed at their source and hold nodata (request %s in the daemon's log)",
            collection,
            failed,
            name,
        )
    return decode(answer.body)


def _post_with_progress(
    session: Session, collection: str, query: Query, on_progress: ProgressCallback, deadline: Deadline
) -> Response:
    plan = _plan(session, collection, query, deadline)
    on_progress(Progress(phase="plan", plan=plan))

    def on_bytes(received: int, total: int | None) -> None:
        on_progress(Progress(phase="receive", plan=plan, received=received, total=total))

    answer = session.post(collection, "coverage", query, accept=_ZARR, deadline=deadline, on_bytes=on_bytes)
    size = len(answer.body)
    on_progress(Progress(phase="done", plan=plan, received=size, total=size))
    return answer


def _plan(session: Session, collection: str, query: Query, deadline: Deadline) -> Plan | None:
    try:
        return session.plan(collection, query, timeout=deadline.remaining())
    except IcehouseError as error:
        # The load itself is going to say what is wrong, if it is; a missing plan must not end it.
        _log.debug("no plan for progress: %s", error)
        return None
