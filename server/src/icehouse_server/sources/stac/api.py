"""Questions to a STAC API: one document, or a search."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import SourceError, SourceTimeoutError, SourceUnavailableError
from icehouse_server.core.time import TimeStep
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.allowed_hosts import AllowedHosts
from icehouse_server.sources.http.failures import describe_error
from icehouse_server.sources.http.urls import is_malformed, public
from icehouse_server.sources.stac.search_boxes import Box
from icehouse_server.sources.stac.settings import StacTable

if TYPE_CHECKING:
    from icehouse_server.sources.stac.search_client import SearchClient

_THREADS = 8
"""Questions to one API at once."""


@dataclass(slots=True, kw_only=True)
class StacApi:
    """One collection of one STAC API."""

    settings: StacTable
    context: SourceContext
    _threads: ThreadPoolExecutor = field(init=False)
    """Threads of its own: an API that stalls must not take those that decode for other collections."""
    allowed: AllowedHosts = field(init=False)
    _local: threading.local = field(default_factory=threading.local)
    _clients: list["SearchClient"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.allowed = self.settings.allowed_hosts(self.context.mirrors)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"stac-{self.settings.collection}")

    async def document(self, url: str) -> str | None:
        """Return the text of a JSON document, or None where the API answers 404.

        Raises:
            SourceError: by what happened.
        """
        return await self._in_thread(lambda client: client.document(url), url)

    async def search(self, boxes: tuple[Box, ...], step: TimeStep | None = None) -> str:
        """Return the items that touch any of some boxes, each once, as a JSON list.

        Args:
            boxes: where.
            step: when, both ends included, as STAC has it; None for any time.

        Raises:
            SourceError: by what happened.
        """
        return await self._in_thread(lambda client: client.search(boxes, step), self.settings.api)

    async def sample(self, boxes: tuple[Box, ...] | None, most: int) -> str:
        """Return some items of the collection, each once, as a JSON list.

        Args:
            boxes: where; None for anywhere.
            most: how many at most.

        Raises:
            SourceError: by what happened.
        """
        return await self._in_thread(lambda client: client.sample(boxes, most), self.settings.api)

    @property
    def _budget(self) -> float:
        return 2 * (self.context.connect_timeout + self.context.read_timeout)

    async def _in_thread[T](self, ask: Callable[["SearchClient"], T], url: str) -> T:
        """Ask in a thread.

        The deadline frees the caller; the thread itself ends by the time limits of its transport.
        """
        budget = self._budget
        context = contextvars.copy_context()  # whose fetch it is, for the log and the counters
        try:
            async with asyncio.timeout(budget):
                return await run_in(self._threads, context.run, lambda: ask(self._of_this_thread()))
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"the API did not answer within {budget:.0f} s", href=public(url)
            ) from error
        except SourceError:
            raise
        except Exception as error:  # no thread, no memory, no open file to be had: asking itself failed
            raise SourceUnavailableError(
                f"the API can't be asked: {describe_error(error)}", href=public(url)
            ) from error

    def _of_this_thread(self) -> "SearchClient":
        from icehouse_server.sources.stac.search_client import SearchClient  # noqa: PLC0415 - see its docstring

        client: SearchClient | None = getattr(self._local, "questions", None)
        if client is None:
            client = SearchClient(self.settings, self.context, self._reaches, self._budget)
            self._local.client = client
            self._clients.append(client)
        return client

    def _reaches(self, url: str) -> bool:
        """Return whether a URL, mirrors applied, is one to ask: of the API, or of a host that is named."""
        own = urlsplit(url).netloc == urlsplit(self.context.mirrored(self.settings.api)).netloc
        return self.allowed.reaches(url) or (own and not is_malformed(url))

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._clients:
            self._clients.pop().close()
