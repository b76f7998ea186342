"""The errors of the client: one tree, its classes chosen by what a caller does about them.

Every error that comes from the daemon carries the problem document (RFC 9457) that explained it. The stable
`kind` of that document picks the class, so `except icehouse.Busy` keeps its meaning when sentences change.
All of them pickle: Ray, Dask and multiprocessing send exceptions from workers to their drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class IcehouseError(Exception):
    """A call to the daemon failed.

    Attributes:
        kind: stable name of what happened, as the daemon gave it; the client's own errors have their own.
        status: HTTP status of the answer, 0 where there was no answer.
        detail: the sentence of the daemon, without title and hint.
        problem: the whole problem document, empty where there was none.
        request_id: names the request in the daemon's log; empty where none was sent.
    """

    default_kind = "error"

    # Everything has a default, so that pickle can rebuild an error from `args` and `__dict__`.
    def __init__(
        self,
        message: str = "",
        *,
        kind: str | None = None,
        status: int = 0,
        detail: str | None = None,
        problem: Mapping[str, Any] | None = None,  # Any: it is whatever JSON the daemon sent
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.kind: str = self.default_kind if kind is None else kind
        self.status: int = status
        self.detail: str = message if detail is None else detail
        self.problem: dict[str, Any] = dict(problem or {})
        self.request_id: str = request_id

    def __str__(self) -> str:
        # LookupError and OSError would each print this in their own way.
        text = str(self.args[0]) if self.args else ""
        # Without a daemon there is no log to look into.
        where = self.request_id and not isinstance(self, ConnectionFailed)
        return f"{text} (request {self.request_id} in the daemon's log)" if where else text


class BadParameter(IcehouseError, ValueError):  # noqa: N818 - the public names say what happened
    """The request itself is wrong: correct it."""

    default_kind = "bad-parameter"


class NotFound(IcehouseError, LookupError):  # noqa: N818
    """The collection, band or snapshot asked for does not exist."""

    default_kind = "not-found"


class TooLarge(IcehouseError):  # noqa: N818
    """The request is above a limit of the daemon: ask for smaller pieces, or pass `chunks=`."""

    default_kind = "too-large"


class OutsideCollection(IcehouseError, ValueError):  # noqa: N818
    """The region has nothing in common with the collection's grid (HTTP 204)."""

    default_kind = "outside-collection"


class SourceFailed(IcehouseError):  # noqa: N818
    """The remote source failed for at least one chunk. No pixel was returned in its place."""

    default_kind = "source-unavailable"

    @property
    def chunks(self) -> list[dict[str, Any]]:  # Any: JSON
        """The failed chunks, each naming its items; empty where the daemon could not say."""
        return _objects(self.problem.get("chunks"))


class SourceTimeout(SourceFailed, TimeoutError):  # noqa: N818
    """The remote source was too slow. What did arrive is cached: asking again resumes."""

    default_kind = "source-timeout"


class NotCached(IcehouseError):  # noqa: N818
    """Only cached chunks were asked for, and some are absent."""

    default_kind = "not-cached"


class Busy(IcehouseError):  # noqa: N818
    """The daemon has too much to do, or is shutting down; the client's own retries ended with the timeout."""

    default_kind = "busy"

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the daemon wants to be asked again, or None where it did not say."""
        value = self.problem.get("retry_after")
        return float(value) if isinstance(value, int | float) else None


class DiskFull(IcehouseError):  # noqa: N818
    """The daemon's cache folder is full."""

    default_kind = "disk-full"


class JobFailed(IcehouseError):  # noqa: N818
    """A job failed or was dismissed. What it has fetched is kept: starting it again goes on from there."""

    default_kind = "job-failed"

    @property
    def chunks(self) -> list[dict[str, Any]]:  # Any: JSON
        """The first hundred of the chunks that failed, each naming its item."""
        return _objects(self.problem.get("failures"))


class NotAllowed(IcehouseError):  # noqa: N818
    """The daemon refused the caller: wrong host name or origin, no token or a wrong one."""

    default_kind = "unauthorized"


class ServerError(IcehouseError):
    """Internal error of the daemon, or a kind of problem that this client does not know."""

    default_kind = "internal"


class ConnectionFailed(IcehouseError, ConnectionError):  # noqa: N818
    """No Icehouse daemon answers at this URL."""

    default_kind = "connection-failed"


class ClientTimeout(IcehouseError, TimeoutError):  # noqa: N818
    """The answer was not complete within the caller's timeout."""

    default_kind = "client-timeout"


class ProtocolError(IcehouseError):
    """The answer is not what was asked for: cut short, or not in the agreed format."""

    default_kind = "protocol-error"


def _objects(listed: object) -> list[dict[str, Any]]:  # Any: JSON
    """Return the objects of a list, whatever a damaged problem document holds in its place."""
    return [dict(entry) for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
