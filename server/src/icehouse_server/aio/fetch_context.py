"""The fetch for which the present task or thread works: its id, and what it has cost so far."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class FetchTally:
    """What the fetch of one block cost at the source so far."""

    id: str = ""
    """Stands in the log lines of the fetch, and goes to the source as ``X-Request-ID``; random: it says
    nothing about who asks."""
    requests: int = 0
    bytes: int = 0
    """Received, compressed as the source sends them."""


FETCH: ContextVar[FetchTally | None] = ContextVar("icehouse-fetch", default=None)
"""The fetch for which the present task or thread works. What two share counts for the first to ask."""


def request_headers() -> dict[str, str]:
    """Return the headers by which a source's own log can be matched with ours."""
    fetch = FETCH.get()
    return {} if fetch is None else {"X-Request-ID": fetch.id}
