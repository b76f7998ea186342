"""Search of the Earth Search stand-in: by collection, place, time, id, and by the `query` extension."""

from __future__ import annotations

import operator
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import shapely
import shapely.geometry

from icehouse_server.demo.stac_api import box
from support.earth_search import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.earth_search.catalogue import Entry
    from support.earth_search.items import Document

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)")
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda value, wanted: value in wanted,
    "startsWith": lambda value, start: str(value).startswith(start),
}


def matching(query: Document) -> list[Entry]:
    """All items that a search finds: the newest first, those of one time by id.

    Raises:
        ValueError: the search can't be read; so do AttributeError, KeyError and TypeError say.
    """
    names = query.get("collections") or catalogue.COLLECTIONS
    found = [entry for name in names if name in catalogue.COLLECTIONS for entry in catalogue.entries(name)]
    if query.get("intersects") or query.get("bbox"):
        area = shapely.geometry.shape(query["intersects"]) if query.get("intersects") else box(query["bbox"])
        shapely.prepare(area)
        found = [entry for entry in found if area.intersects(entry.geometry)]
    if query.get("ids"):
        found = [entry for entry in found if entry.item_id in query["ids"]]
    if query.get("datetime"):
        low, high = _interval(str(query["datetime"]))
        found = [entry for entry in found if low <= entry.time <= high]
    for name, wanted in (query.get("query") or {}).items():
        found = [entry for entry in found if _fits(entry.properties.get(name), wanted)]
    return sorted(sorted(found, key=lambda entry: entry.item_id), key=lambda entry: entry.time, reverse=True)


def _interval(text: str) -> tuple[datetime, datetime]:
    """First and last instant of a `datetime`, both included. stac-server refuses all but RFC 3339."""
    first, slash, last = text.upper().partition("/")
    low, high = _instant(first), _instant(last) if slash else _instant(first)
    if low is None and high is None:
        raise ValueError("datetime value is invalid, at least one end of the interval must be closed")
    return low or datetime.min.replace(tzinfo=UTC), high or datetime.max.replace(tzinfo=UTC)


def _instant(text: str) -> datetime | None:
    if text in {"", ".."}:
        return None
    if not _RFC3339.fullmatch(text):
        raise ValueError("datetime value is invalid, does not match RFC3339 format")
    return datetime.fromisoformat(text)


def _fits(value: object, wanted: Document) -> bool:
    """Whether an item's property meets every condition of the `query` extension on it."""
    return value is not None and all(_OPERATORS[name](value, other) for name, other in wanted.items())
