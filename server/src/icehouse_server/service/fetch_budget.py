"""A budget of fetched chunks for each client of the cube: against the careless mean of a continent."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from icehouse_server.core.errors import FetchBudgetError

_MOST_CLIENTS = 1024
"""Clients that are remembered at once; beyond, the one whose window began first is forgotten."""


@dataclass(slots=True)
class _Window:
    began: float
    spent: int = 0


class FetchBudget:
    """N chunks in a window of time, which begins with a client's first fetch."""

    def __init__(self, limit: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._clients: dict[str, _Window] = {}

    def spend(self, client: str) -> None:
        """Take one chunk from a client's budget.

        Raises:
            FetchBudgetError: nothing is left of it.
        """
        now = self._clock()
        window = self._clients.get(client)
        if window is None or now - window.began >= self._window:
            self._clients.pop(client, None)  # the order is that of beginning
            window = self._clients[client] = _Window(began=now)
            if len(self._clients) > _MOST_CLIENTS:
                del self._clients[next(iter(self._clients))]
        if window.spent >= self._limit:
            raise FetchBudgetError(
                limit=self._limit, window=self._window, retry_after=window.began + self._window - now
            )
        window.spent += 1
