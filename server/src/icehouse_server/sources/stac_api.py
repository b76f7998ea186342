"""Questions to a STAC API: one document, or a search."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.lonlat import Box
from icehouse_server.sources.stac_io import AbsentError, make_io, modifier
from icehouse_server.sources.stac_settings import StacTable
from icehouse_server.sources.urls import host_of, public

_THREADS = 8
"""Questions to one API at once."""

_MAX_ITEMS = 2000
"""Items that one search may find; more can't be merged in sensible time."""


@dataclass(slots=True, kw_only=True)
class StacApi:
    """One collection of one STAC API."""

    settings: StacTable
    context: SourceContext
    _threads: ThreadPoolExecutor = field(init=False)
    """Threads of its own: an API that stalls must not take those that decode for other collections."""
    _local: threading.local = field(default_factory=threading.local)
    _transports: list[StacApiIO] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"stac-{self.settings.collection}")

    async def document(self, url: str) -> str | None:
        """Return the text of a JSON document, or None where the API answers 404.

        Raises:
            SourceError: by what happened.
        """
        try:
            text = await self._in_thread(lambda: self._transport().request(url), url)
        except AbsentError:
            return None
        try:
            found = json.loads(text)
        except ValueError as error:
            raise SourceCorruptError("the API's answer is no JSON", href=public(url)) from error
        if not isinstance(found, dict):
            raise SourceCorruptError("the API's answer is no JSON object", href=public(url))
        return text

    async def search(self, boxes: tuple[Box, ...]) -> dict[str, dict[str, object]]:
        """Return the items that touch any of some boxes, by id.

        Raises:
            SourceError: by what happened.
        """
        url = self.settings.api
        found: dict[str, dict[str, object]] = {}
        for box in boxes:
            try:
                items = await self._in_thread(lambda box=box: self._search(box), url)  # type: ignore[misc]
            except AbsentError as error:
                raise SourceUnavailableError("the API's search answers 404", href=public(url)) from error
            found |= {str(item["id"]): item for item in items}
        return found

    def _search(self, box: Box) -> list[dict[str, object]]:
        stac_io = self._transport()
        client = Client.open(
            self.settings.api,
            stac_io=stac_io,
            request_modifier=modifier(self.context),
            timeout=stac_io.timeout,
        )
        search = client.search(collections=[self.settings.collection], bbox=box)
        items = list(islice(search.items_as_dicts(), _MAX_ITEMS + 1))
        if len(items) > _MAX_ITEMS:
            raise SourceRefusedError(
                f"more than {_MAX_ITEMS} items lie in {box}", href=public(self.settings.api)
            )
        if any("id" not in item for item in items):
            raise SourceCorruptError("the API sent an item without id", href=public(self.settings.api))
        return items

    async def _in_thread[T](self, work: Callable[[], T], url: str) -> T:
        """Run blocking work and give pystac-client's failures their type back.

        The deadline frees the caller; the thread itself ends by the time limits of its transport.
        """
        budget = 2 * (self.context.connect_timeout + self.context.read_timeout)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(budget):
                return await loop.run_in_executor(self._threads, work)
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"the API did not answer within {budget:.0f} s", href=public(url)
            ) from error
        except APIError as error:
            # pystac-client raises its error while it handles ours, without naming it as the cause.
            if isinstance(error.__context__, SourceError | AbsentError):
                raise error.__context__ from None
            raise SourceCorruptError(f"the API's answer can't be used: {error}", href=public(url)) from error
        except (SourceError, AbsentError):
            raise
        except Exception as error:  # pystac raises many kinds for documents that are no STAC
            raise SourceCorruptError(
                f"the API's answer is no STAC: {type(error).__name__}: {error}"[:300], href=public(url)
            ) from error

    def _transport(self) -> StacApiIO:
        """Return this thread's transport: a requests session is not made for several threads."""
        stac_io: StacApiIO | None = getattr(self._local, "stac_io", None)
        if stac_io is None:
            stac_io = make_io(self.context, self._trusts)
            self._local.stac_io = stac_io
            self._transports.append(stac_io)
        return stac_io

    def _trusts(self, url: str) -> bool:
        mirrored = self.context.mirrored(self.settings.api)
        return self.settings.trusts(url) or host_of(url) == host_of(mirrored)

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._transports:
            self._transports.pop().session.close()
