"""Which items lie under a window: by arithmetic or by search, remembered next to the repositories."""

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from odc.geo.geobox import GeoBox

from icehouse_server.aio.gather import gather_or_cancel
from icehouse_server.aio.single_flight import SingleFlight
from icehouse_server.aio.worker_pool import run_in
from icehouse_server.core.errors import SourceUnavailableError
from icehouse_server.core.grid import Grid, Window
from icehouse_server.core.time import TimeStep
from icehouse_server.sources.context import SourceContext
from icehouse_server.sources.http.urls import expiry_of, public
from icehouse_server.sources.stac.api import StacApi
from icehouse_server.sources.stac.items import Item, parse_item
from icehouse_server.sources.stac.search_boxes import Box, search_boxes
from icehouse_server.sources.stac.settings import StacTable
from icehouse_server.sources.stac.tiling import Tile, Tiling

_CELL = 8
"""Chunks each way of the areas that are searched: neighbours share a question, and the answer for a place
does not depend on who asked."""

_PARSED = 512
"""Parsed documents kept; parsing one takes about a millisecond."""

_BELIEVED = 10.0
"""Seconds for which a document is reused although it led to an error: neighbouring reads share it."""

_SETTLED = 30 * 86400.0
"""Seconds after a step's end for which items are taken to come in still: scenes are published days later.

Until then a search stays fresh as long as "there is no such item" does, afterwards as long as a document."""

_EXPIRY_MARGIN = 120.0
"""Seconds before its end from which on a signed link is not used: a read that has begun must end."""

_COLLECTION_MAX_AGE = 300.0
"""Seconds for which the collection is known to be there, so that a 404 means the item alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """A document's items; times are monotonic seconds."""

    born: float
    until: float
    items: tuple[Item, ...]


@dataclass(slots=True, kw_only=True)
class Finder:
    """Finds the items of one collection."""

    settings: StacTable
    context: SourceContext
    grid: Grid
    api: StacApi
    _tiling: Tiling | None = field(init=False)
    _flights: SingleFlight[str, tuple[Item, ...]] = field(default_factory=SingleFlight)
    _probes: SingleFlight[str, None] = field(default_factory=SingleFlight)
    _parsed: OrderedDict[str, _Parsed] = field(default_factory=OrderedDict)
    _doubted: set[str] = field(default_factory=set)
    """Keys of remembered documents that led to an error: not to be reused."""
    _seen: float | None = None
    """When the collection's own document was last there (monotonic seconds)."""

    def __post_init__(self) -> None:
        self._tiling = None if self.settings.tiling is None else self.settings.tiling.tiling()

    async def items(
        self, window: Window, not_before: float = -math.inf, step: TimeStep | None = None, level: int = 0
    ) -> tuple[Item, ...]:
        """Return the items that may touch a window, in the order of precedence: by id.

        Args:
            window: pixels of the grid at the level.
            not_before: monotonic seconds; what is remembered from before is not considered fresh.
            step: only items whose time lies in it, its end excluded; None for items of any time.
            level: of the window.

        Raises:
            SourceError: the API could not be asked.
        """
        if self._tiling is not None:
            tiles = self._tiling.tiles_under(self.grid, self._at_full_resolution(window, level))
            found = await gather_or_cancel(self._item(tile, not_before) for tile in tiles)
        else:
            areas = self._cells(window, level)
            found = await gather_or_cancel(self._cell(area, not_before, step) for area in areas)
        unique = {item.id: item for items in found for item in items if _is_in(item, step)}
        return tuple(unique[item] for item in sorted(unique))

    def doubt(
        self,
        window: Window,
        item: str,
        step: TimeStep | None = None,
        level: int = 0,
        *,
        at_once: bool = False,
    ) -> None:
        """Forget what led to an error: the next question goes to the API, not to a remembered document.

        Args:
            window: what was read.
            item: id of the item concerned, or an empty string.
            step: of what was read.
            level: of the window.
            at_once: also where the document has only just arrived.
        """
        if self._tiling is not None:
            keys = [self.settings.item_url(item)] if item else []
        else:
            keys = [self._search_key(area, step)[0] for area in self._cells(window, level)]
        for key in keys:
            parsed = self._parsed.get(key)
            if at_once or parsed is None or time.monotonic() - parsed.born > _BELIEVED:
                self._parsed.pop(key, None)
                self._doubted.add(key)

    async def _item(self, tile: Tile, not_before: float) -> tuple[Item, ...]:
        url = self.settings.item_url(tile.item)

        async def ask() -> str | None:
            body = await self.api.document(url)
            if body is None:
                await self._probes.run("", self._probe)
            return body

        def parse(body: str) -> tuple[Item, ...]:
            return (parse_item(body, url, expected_id=tile.item, tile_window=tile.extent),)

        return await self._flights.run(
            f"{not_before} {url}", lambda: self._remembered(url, not_before, ask, parse)
        )

    def _at_full_resolution(self, window: Window, level: int) -> Window:
        """Return the pixels of the grid under a window of a level."""
        factor = 2**level
        whole = Window(
            row=window.row * factor,
            col=window.col * factor,
            height=window.height * factor,
            width=window.width * factor,
        )
        return whole.intersection(self.grid.window) or self.grid.window

    def _cells(self, window: Window, level: int) -> list[GeoBox]:
        """Return the search areas under a window of a level, cut at the grid's edge."""
        grid = self.grid.shrunk(level)
        size = grid.chunk * _CELL
        areas = (
            Window(row=row * size, col=col * size, height=size, width=size)
            for row in range(window.row // size, -(-window.stop_row // size))
            for col in range(window.col // size, -(-window.stop_col // size))
        )
        cells = (inside for area in areas if (inside := area.intersection(grid.window)))
        return [grid.geobox_of(cell) for cell in cells]

    def _search_key(self, area: GeoBox, step: TimeStep | None) -> tuple[str, tuple[Box, ...]]:
        """Return under which key the items of a search area are remembered, and the boxes to search."""
        boxes = search_boxes(area)
        bbox = ";".join(",".join(f"{number:.6f}" for number in box) for box in boxes)
        when = "" if step is None else f"&datetime={step}"
        return f"{self.settings.api}/search?collections={self.settings.collection}&bbox={bbox}{when}", boxes

    async def _cell(self, area: GeoBox, not_before: float, step: TimeStep | None) -> tuple[Item, ...]:
        key, boxes = self._search_key(area, step)

        def parse(body: str) -> tuple[Item, ...]:
            return tuple(
                parse_item(json.dumps(item), self.settings.item_url(str(item["id"])))
                for item in json.loads(body)
            )

        return await self._flights.run(
            f"{not_before} {key}",
            lambda: self._remembered(key, not_before, lambda: self.api.search(boxes, step), parse, step),
        )

    async def _remembered(
        self,
        key: str,
        not_before: float,
        ask: Callable[[], Coroutine[object, object, str | None]],
        parse: Callable[[str], tuple[Item, ...]],
        step: TimeStep | None = None,
    ) -> tuple[Item, ...]:
        """Return parsed items from memory, from the document cache, or from the API."""
        now = time.monotonic()
        parsed = self._parsed.get(key)
        if parsed is not None and parsed.until > now and parsed.born >= not_before:
            self._parsed.move_to_end(key)
            return parsed.items
        stored = None if key in self._doubted else await self.context.documents.get(key)
        if stored is not None and stored.age <= min(self._max_age(stored.body, step), now - not_before):
            items, left = await self._parse(stored.body, parse)
            if left > 0:
                fresh = min(left, self._max_age(stored.body, step) - stored.age)
                return self._keep(key, _Parsed(born=now - stored.age, until=now + fresh, items=items))
        body = await ask()
        items, left = await self._parse(body, parse)  # first: nothing is remembered that can't be used
        await self.context.documents.put(key, body)
        self._doubted.discard(key)
        until = now + min(left, self._max_age(body, step))
        return self._keep(key, _Parsed(born=now, until=until, items=items))

    def _keep(self, key: str, parsed: _Parsed) -> tuple[Item, ...]:
        self._parsed[key] = parsed
        while len(self._parsed) > _PARSED:
            self._parsed.popitem(last=False)
        return parsed.items

    async def _parse(
        self, body: str | None, parse: Callable[[str], tuple[Item, ...]]
    ) -> tuple[tuple[Item, ...], float]:
        """Parse in the pool, for a search may find thousands of items; say for how long links hold, too."""
        if body is None:
            return (), math.inf

        def work() -> tuple[tuple[Item, ...], float]:
            items = parse(body)
            return items, _seconds_left(items)

        return await run_in(self.context.pool, work)

    def _max_age(self, body: str | None, step: TimeStep | None) -> float:
        """Return for how many seconds an answer is considered fresh."""
        context = self.context
        if body is None:
            return context.absent_max_age
        settled = step is None or step.end.timestamp() + _SETTLED < time.time()
        return context.items_max_age if settled else min(context.absent_max_age, context.items_max_age)

    async def _probe(self) -> None:
        """Make sure that a 404 is about the item: the collection itself must be there.

        Raises:
            SourceUnavailableError: it is not; then nothing is known about the item.
        """
        now = time.monotonic()
        if self._seen is not None and now - self._seen < _COLLECTION_MAX_AGE:
            return
        url = self.settings.collection_url()
        if await self.api.document(url) is None:
            self._seen = None
            raise SourceUnavailableError(
                f"the API has no collection {self.settings.collection!r} at the moment", href=public(url)
            )
        self._seen = time.monotonic()

    async def close(self) -> None:
        """End questions that are under way. Safe to call twice."""
        await self._flights.close()
        await self._probes.close()


def _is_in(item: Item, step: TimeStep | None) -> bool:
    """Return whether an item belongs to a step; an API's search takes both ends of an interval."""
    return step is None or step.start <= item.time < step.end


def _seconds_left(items: tuple[Item, ...]) -> float:
    """Return for how long the signed links of some items may be used; infinite where none is signed."""
    ends = (
        end
        for item in items
        for asset in item.document.assets.values()
        if asset is not None and (end := expiry_of(asset.href))
    )
    return min(ends, default=math.inf) - _EXPIRY_MARGIN - time.time()
