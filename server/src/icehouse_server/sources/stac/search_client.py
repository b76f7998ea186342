"""Questions to a STAC API as pystac-client asks them: blocking, and of one thread.

Imported by the thread that asks first: pystac-client takes a tenth of a second, which no start need wait for.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from icehouse_server.sources.http.failures import describe_error
from icehouse_server.sources.http.urls import public
from icehouse_server.sources.stac.pystac_io import AbsentError, make_io, modifier
from icehouse_server.sources.stac.search_boxes import Box
from icehouse_server.sources.stac.settings import StacTable

_MAX_DOCUMENT = 8 * 1024 * 1024
"""Characters of one document."""

_MAX_ITEMS = 2000
"""Items that one search may find; more can't be merged in sensible time."""


_PAGE = 100
"""Items that a page of a sample has."""


class SearchClient:
    """Asks one collection of one STAC API. A requests session is not made for several threads."""

    def __init__(
        self, settings: StacTable, context: SourceContext, reaches: Callable[[str], bool], budget: float
    ) -> None:
        self._settings = settings
        self._context = context
        self._budget = budget
        self._transport = make_io(context, reaches)

    def document(self, url: str) -> str | None:
        """Return the text of a JSON document, or None where the API answers 404.

        Raises:
            SourceError: by what happened.
        """
        try:
            with self._typed(url):
                return self._document(url)
        except AbsentError:
            return None

    def _document(self, url: str) -> str:
        text = self._transport.request(url)
        if len(text) > _MAX_DOCUMENT:
            raise SourceCorruptError(
                f"the API's response is longer than {_MAX_DOCUMENT} characters", href=public(url)
            )
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceCorruptError("the API's answer is not JSON", href=public(url)) from error
        if not isinstance(found, dict):
            raise SourceCorruptError("the API's answer is not a JSON object", href=public(url))
        return text

    def search(self, boxes: tuple[Box, ...], step: TimeStep | None) -> str:
        """Return the items that touch any of some boxes, each once, as a JSON list.

        Raises:
            SourceError: by what happened.
        """
        url = self._settings.api
        try:
            with self._typed(url):
                return self._search(boxes, step)
        except AbsentError as error:
            raise SourceUnavailableError("the API's search answers 404", href=public(url)) from error

    def _search(self, boxes: tuple[Box, ...], step: TimeStep | None) -> str:
        """Ask page by page, within a number of items, bytes and seconds: a search may have no end."""
        found: dict[str, dict[str, object]] = {}
        end = time.monotonic() + self._budget
        for box in boxes:
            for number, name, item in self._found(box, step, end):
                if number >= _MAX_ITEMS:
                    raise SourceRefusedError(
                        f"more than {_MAX_ITEMS} items lie in {box}", href=public(self._settings.api)
                    )
                found[name] = item
        return json.dumps(list(found.values()))

    def _found(
        self, box: Box | None, step: TimeStep | None, end: float, most: int | None = None
    ) -> Iterator[tuple[int, str, dict[str, object]]]:
        """Yield what a search finds: number, id and document of each item."""
        href = public(self._settings.api)
        client = Client.open(
            self._settings.api,
            stac_io=self._transport,
            request_modifier=modifier(self._context),
            timeout=self._transport.timeout,
        )
        search = client.search(
            collections=[self._settings.collection],
            bbox=box,
            datetime=None if step is None else str(step),
            max_items=most,
            limit=None if most is None else min(most, _PAGE),
        )
        for number, item in enumerate(search.items_as_dicts()):
            if time.monotonic() > end:
                raise SourceTimeoutError("the API's search exceeded its time limit", href=href)
            if not isinstance(item, dict) or not isinstance(item.get("id"), str):
                raise SourceCorruptError("the API sent an item without id", href=href)
            yield number, item["id"], item

    def sample(self, boxes: tuple[Box, ...] | None, most: int) -> str:
        """Return the first items that a search finds, each once, as a JSON list.

        Args:
            boxes: where; None for anywhere.
            most: how many at most.

        Raises:
            SourceError: by what happened.
        """
        url = self._settings.api
        try:
            with self._typed(url):
                found: dict[str, dict[str, object]] = {}
                end = time.monotonic() + self._budget
                for box in boxes or (None,):
                    items = self._found(box, None, end, most)
                    found.update((item, document) for _, item, document in items)
                return json.dumps(list(found.values())[:most])
        except AbsentError as error:
            raise SourceUnavailableError("the API's search answers 404", href=public(url)) from error

    @contextmanager
    def _typed(self, url: str) -> Iterator[None]:
        """Begin a question, and give pystac-client's failures their type back."""
        self._transport.begin()
        try:
            yield
        except APIError as error:
            # pystac-client raises its error while it handles ours, without naming it as the cause.
            if isinstance(error.__context__, SourceError | AbsentError):
                raise error.__context__ from None
            raise SourceCorruptError(
                f"the API's answer can't be used: {describe_error(error)}", href=public(url)
            ) from error
        except (SourceError, AbsentError):
            raise
        except Exception as error:  # pystac raises many kinds for documents that are no STAC
            raise SourceCorruptError(
                f"the API's answer is not STAC: {describe_error(error)}", href=public(url)
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._transport.session.close()
