"""What a request's answer leaves behind for its log line and the metrics."""

from dataclasses import dataclass

from starlette.types import Scope

from icehouse_server.service import Trace

_KEY = "icehouse.note"


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """Filled in while a request is answered. One object a request, however often its scope is copied."""

    trace: Trace | None = None
    """What happened on the way to the pixels, where pixels were asked for."""
    format: str = ""
    """Name of the format, where pixels were sent."""
    cache: str = ""
    """How the cache was met, where pixels were sent: hit, miss, collapsed or incomplete."""
    kind: str = ""
    """Stable kind of the error, where the answer is a problem."""
    gone: bool = False
    """The client closed its connection before it had its answer."""


def put_context(scope: Scope) -> RequestContext:
    """Give a request its note."""
    note = scope[_KEY] = RequestContext()
    return note


def context_of(scope: Scope) -> RequestContext:
    """Return the note of a request; a new one where none is kept."""
    found = scope.get(_KEY)
    return found if isinstance(found, RequestContext) else RequestContext()
