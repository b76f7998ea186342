"""Questions to a STAC API: one document, or a search."""

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pystac_client import Client
from pystac_client.exceptions import APIError

from icehouse_server.core.errors import (
    SourceCorruptError,
    SourceError,
    SourceRefusedError,
    SourceTimeoutError,
    SourceUnavailableError,
)
from icehouse_server.core.time import TimeStep
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.failures import told
from icehouse_server.sources.lonlat import Box
from icehouse_server.sources.stac_io import AbsentError, Transport, make_io, modifier
from icehouse_server.sources.stac_settings import StacTable
from icehouse_server.sources.trust import Trust
from icehouse_server.sources.urls import crooked, public

_THREADS = 8
"""Questions to one API at once."""

_MAX_DOCUMENT = 8 * 1024 * 1024
"""Characters of one document."""

_MAX_ITEMS = 2000
"""Items that one search may find; more can't be merged in sensible time."""


@dataclass(slots=True, kw_only=True)
class StacApi:
    """One collection of one STAC API."""

    settings: StacTable
    context: SourceContext
    _threads: ThreadPoolExecutor = field(init=False)
    """Threads of its own: an API that stalls must not take those that decode for other collections."""
    trust: Trust = field(init=False)
    _local: threading.local = field(default_factory=threading.local)
    _transports: list[Transport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trust = self.settings.trust(self.context.mirrors)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"stac-{self.settings.collection}")

    async def document(self, url: str) -> str | None:
        """Return the text of a JSON document, or None where the API answers 404.

        Raises:
            SourceError: by what happened.
        """
        try:
            return await self._in_thread(lambda: self._document(url), url)
        except AbsentError:
            return None

    def _document(self, url: str) -> str:
        text = self._transport().request(url)
        if len(text) > _MAX_DOCUMENT:
            raise SourceCorruptError("the API's answer is absurdly large", href=public(url))
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceCorruptError("the API's answer is no JSON", href=public(url)) from error
        if not isinstance(found, dict):
            raise SourceCorruptError("the API's answer is no JSON object", href=public(url))
        return text

    async def search(self, boxes: tuple[Box, ...], step: TimeStep | None = None) -> str:
        """Return the items that touch any of some boxes, each once, as a JSON list.

        Args:
            boxes: where.
            step: when, both ends included, as STAC has it; None for any time.

        Raises:
            SourceError: by what happened.
        """
        url = self.settings.api
        try:
            return await self._in_thread(lambda: self._search(boxes, step), url)
        except AbsentError as error:
            raise SourceUnavailableError("the API's search answers 404", href=public(url)) from error

    def _search(self, boxes: tuple[Box, ...], step: TimeStep | None) -> str:
        """Ask page by page, within a number of items, bytes and seconds: a search may have no end."""
        stac_io = self._transport()
        href = public(self.settings.api)
        client = Client.open(
            self.settings.api,
            stac_io=stac_io,
            request_modifier=modifier(self.context),
            timeout=stac_io.timeout,
        )
        end = time.monotonic() + self._budget
        found: dict[str, dict[str, object]] = {}
        for box in boxes:
            search = client.search(
                collections=[self.settings.collection],
                bbox=box,
                datetime=None if step is None else str(step),
            )
            for number, item in enumerate(search.items_as_dicts()):
                if number >= _MAX_ITEMS:
                    raise SourceRefusedError(f"more than {_MAX_ITEMS} items lie in {box}", href=href)
                if time.monotonic() > end:
                    raise SourceTimeoutError("the API's search has no end", href=href)
                if not isinstance(item, dict) or not isinstance(item.get("id"), str):
                    raise SourceCorruptError("the API sent an item without id", href=href)
                found[item["id"]] = item
        return json.dumps(list(found.values()))

    @property
    def _budget(self) -> float:
        return 2 * (self.context.connect_timeout + self.context.read_timeout)

    async def _in_thread[T](self, work: Callable[[], T], url: str) -> T:
        """Run blocking work and give pystac-client's failures their type back.

        The deadline frees the caller; the thread itself ends by the time limits of its transport.
        """
        budget = self._budget
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()  # whose fetch it is, for the log and the counters
        try:
            async with asyncio.timeout(budget):
                return await loop.run_in_executor(self._threads, context.run, work)
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"the API did not answer within {budget:.0f} s", href=public(url)
            ) from error
        except APIError as error:
            # pystac-client raises its error while it handles ours, without naming it as the cause.
            if isinstance(error.__context__, SourceError | AbsentError):
                raise error.__context__ from None
            raise SourceCorruptError(
                f"the API's answer can't be used: {told(error)}", href=public(url)
            ) from error
        except (SourceError, AbsentError):
            raise
        except Exception as error:  # pystac raises many kinds for documents that are no STAC
            raise SourceCorruptError(
                f"the API's answer is no STAC: {told(error)}", href=public(url)
            ) from error

    def _transport(self) -> Transport:
        """Return this thread's transport, at the start of a question.

        A requests session is not made for several threads.
        """
        transport: Transport | None = getattr(self._local, "transport", None)
        if transport is None:
            transport = make_io(self.context, self._reaches)
            self._local.transport = transport
            self._transports.append(transport)
        transport.begin()
        return transport

    def _reaches(self, url: str) -> bool:
        """Return whether a URL, mirrors applied, is one to ask: of the API, or of a host that is named."""
        own = urlsplit(url).netloc == urlsplit(self.context.mirrored(self.settings.api)).netloc
        return self.trust.reaches(url) or (own and not crooked(url))

    def close(self) -> None:
        """Close the connections. Safe to call twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._transports:
            self._transports.pop().session.close()
