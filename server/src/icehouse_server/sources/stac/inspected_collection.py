"""What the document of a STAC collection says of it, as far as a collection file can hold it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from icehouse_server.sources.http.urls import is_http
from icehouse_server.sources.stac.documents import numbers

_LONGEST = 300
"""Characters of a text of one line."""
_LONGEST_DESCRIPTION = 2000
_MOST = 20
"""Keywords and providers that are taken."""
_MOST_LINKS = 4
_LINKS = ("about", "license", "describedby", "via")
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{1,40}")
_NOT_SPDX = {"proprietary", "various", "other", "none", "unknown"}
_NAMED_ROLES = ("licensor", "producer")
_EARTH = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionFacts:
    """What a collection's document says."""

    title: str
    description: str
    license: str
    """SPDX identifier; ``other`` where the document names another; empty where it names none."""
    attribution: str
    citation: str
    keywords: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    bbox: tuple[float, float, float, float] | None
    """West, south, east, north in degrees."""
    interval: tuple[str | None, str | None]
    item_assets: Mapping[str, object]


def collection_facts(document: Mapping[str, object], name: str) -> CollectionFacts:
    """Return what is known; a part that is malformed is the same as one that is missing.

    Args:
        document: JSON.
        name: id of the collection.
    """
    extent = _table(document.get("extent"))
    assets = document.get("item_assets")
    return CollectionFacts(
        title=_line(document.get("title")) or name,
        description=_text(document.get("description"), _LONGEST_DESCRIPTION),
        license=_license(document.get("license")),
        attribution=_attribution(document.get("providers")),
        citation=_line(document.get("sci:citation")),
        keywords=tuple(_line(word) for word in _list(document.get("keywords"))[:_MOST] if _line(word)),
        links=_links(document.get("links")),
        bbox=_bbox(_table(extent.get("spatial")).get("bbox")),
        interval=_interval(_table(extent.get("temporal")).get("interval")),
        item_assets=_table(assets),
    )


def _license(value: object) -> str:
    text = _line(value)
    if not text:
        return ""
    return text if _SPDX.fullmatch(text) and text.lower() not in _NOT_SPDX else "other"


def _attribution(value: object) -> str:
    """Return the names of those who made the data or license them; of all where no roles say."""
    providers = [_table(one) for one in _list(value)[:_MOST]]
    named = [one for one in providers if set(_NAMED_ROLES) & set(map(str, _list(one.get("roles"))))]
    names = [_line(one.get("name")) for one in named or providers]
    return ", ".join(dict.fromkeys(filter(None, names)))


def _links(value: object) -> tuple[tuple[str, str], ...]:
    found = []
    for link in map(_table, _list(value)):
        relation, href = link.get("rel"), link.get("href")
        if relation in _LINKS and isinstance(href, str) and is_http(href) and href.isprintable():
            found.append((_line(link.get("title")) or str(relation), href))
    return tuple(found[:_MOST_LINKS])


def _bbox(value: object) -> tuple[float, float, float, float] | None:
    """Return the first box, which holds all others; its heights are left out."""
    boxes = _list(value)
    found = numbers(boxes[0] if boxes else None, (4, 6), 2 * _EARTH)
    if found is None:
        return None
    half = len(found) // 2
    west, south, east, north = *found[:2], *found[half : half + 2]
    whole = -_EARTH <= west <= _EARTH and -_EARTH <= east <= _EARTH and -90 <= south < north <= 90  # noqa: PLR2004
    return (west, south, east, north) if whole else None


def _interval(value: object) -> tuple[str | None, str | None]:
    ends = _list(_list(value)[0] if _list(value) else None)
    first, last = (*map(_moment, ends[:2]), None, None)[:2]
    return first, last


def _moment(value: object) -> str | None:
    try:
        found = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: object, longest: int) -> str:
    return value.strip()[:longest] if isinstance(value, str) else ""


def _line(value: object) -> str:
    return " ".join(_text(value, _LONGEST).split())


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
