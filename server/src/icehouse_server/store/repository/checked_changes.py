"""Changes to a repository, each followed by a look at what the repository holds where it failed."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from icehouse_server.core.errors import IcehouseError
from icehouse_server.store.translate_errors import translate_errors

type Resume = Callable[[], Awaitable[None]]
"""Called in the writer's turn after a failure, to find out what the repository holds: it may have landed."""


class CheckedChanges:
    """Makes changes one after the other. Used by the one writer of a repository, in its turn."""

    def __init__(self, resume: Resume) -> None:
        self._resume = resume
        self._in_doubt = False

    async def make(self, change: Callable[[], Awaitable[None]]) -> None:
        """Change the repository. Where that fails it may have landed all the same, so look before going on.

        If looking fails as well, the next change looks first.
        """
        await self._look()
        self._in_doubt = True
        try:
            await change()
            self._in_doubt = False
        finally:
            with suppress(IcehouseError):
                await self._look()

    async def _look(self) -> None:
        if self._in_doubt:
            with translate_errors("what the repository holds can't be found out"):
                await self._resume()
            self._in_doubt = False
