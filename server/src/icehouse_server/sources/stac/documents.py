"""STAC item documents as they are in the wild: what is needed of one is read, and nothing else can be wrong.

Documents of public APIs have dates, links, extensions and assets that the specification does not allow. Only
what a read needs of them is looked at, and only then, so that the rest fails nothing.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.sources.http.failures import describe_error
from icehouse_server.sources.http.urls import public, resolved, without_vsi

_MAX_ID = 256

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,15}:[A-Za-z0-9_.]{1,32}")
_URN = re.compile(
    r"(?:urn:ogc:def:crs:|https?://www\.opengis\.net/def/crs/)([A-Za-z0-9_]{1,16})[:/][0-9.]*[:/]([A-Za-z0-9_.]{1,32})"
)
_UNSAID = frozenset({"none", "null", "nan", "undefined", ""})
"""What programs write where they know no code."""


@dataclass(frozen=True, slots=True)
class AssetDocument:
    """One asset of an item: a file."""

    href: str
    """Absolute; without the prefixes by which GDAL names file systems."""
    extra_fields: Mapping[str, object]
    """All that the document says of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDocument:
    """What is read of an item document."""

    id: str
    properties: Mapping[str, object]
    assets: Mapping[str, AssetDocument | None]
    """By their keys; None where one has no href."""

    @property
    def moment(self) -> datetime | None:
        """When it was taken, aware: its datetime, or where it has none, its start; None where it has neither.

        Raises:
            ValueError: what it has is not a date.
        """
        for key in ("datetime", "start_datetime"):
            value = self.properties.get(key)
            if value is None:
                continue
            try:
                found = datetime.fromisoformat(str(value).strip())
            except ValueError:
                raise ValueError(f"its {key} {str(value)[:40]!r} is not a date") from None
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found
        return None


def parse_document(body: str, url: str, *, expected_id: str | None = None) -> ItemDocument:
    """Read an item document of any version of STAC.

    Args:
        body: JSON text.
        url: where it came from. Relative hrefs are relative to the item's own ``self`` link, and to this
            where it has none.
        expected_id: which item was asked for, if one was.

    Raises:
        SourceCorruptError: it is not a STAC item, or not the one asked for.
    """
    known = expected_id or ""

    def corrupt(detail: str) -> SourceCorruptError:
        return SourceCorruptError(detail, item=known, href=public(url))

    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise corrupt(f"the API's answer is not a STAC item: {describe_error(error)}") from error
    if not isinstance(document, dict) or document.get("type") != "Feature":
        raise corrupt("the API's answer is not a STAC item: its type is not Feature")
    found = document.get("id")
    if not isinstance(found, str) or not found.isprintable() or not 0 < len(found) <= _MAX_ID:
        raise corrupt("the API sent an item whose id is not a short text")
    if expected_id is not None and found != expected_id:
        raise corrupt(f"the API answered with item {found!r}, {expected_id!r} was asked for")
    known = found
    properties, assets = document.get("properties"), document.get("assets")
    if not isinstance(properties, dict) or not isinstance(assets, dict):
        name = "assets" if isinstance(properties, dict) else "properties"
        raise corrupt(f"item {found!r} is not a STAC item: its {name} are not an object")
    base = _base(document.get("links"), url)
    return ItemDocument(
        id=found,
        properties=properties,
        assets={name: _asset(asset, base) for name, asset in assets.items() if asset is not None},
    )


def _base(links: object, url: str) -> str:
    """Return what relative hrefs of an item are relative to."""
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self" and isinstance(link.get("href"), str):
            return resolved(without_vsi(link["href"]), url)
    return url


def _asset(asset: object, base: str) -> AssetDocument | None:
    if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
        return None
    return AssetDocument(resolved(without_vsi(asset["href"]), base), asset)


def crs_code(value: object) -> str | None:
    """Return what a document says of a CRS as an authority and a code, or None where it says nothing.

    PROJ reads files and pipelines where it is given other texts, so only codes are passed on. A file says
    itself of which CRS it is, so what can't be understood here is the same as nothing.

    Args:
        value: ``proj:code`` or ``proj:epsg``: a code, a number, or either as text.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if named := _URN.fullmatch(text):
        text = f"{named[1]}:{named[2]}"
    if text.isdecimal() and text.isascii():
        text = f"EPSG:{text}"
    if text.rpartition(":")[2].lower() in _UNSAID or not _CODE.fullmatch(text):
        return None
    return text


def numbers(values: object, lengths: tuple[int, ...], limit: float) -> list[float] | None:
    """Return a list of finite numbers of one of some lengths; None where a document holds something else.

    Args:
        values: what the document holds.
        lengths: how many there may be.
        limit: how large, up to either side of 0.
    """
    if not isinstance(values, list) or len(values) not in lengths:
        return None
    found = [number(value) for value in values]
    if any(value is None or not abs(value) <= limit for value in found):
        return None
    return [value for value in found if value is not None]


def number(value: object) -> float | None:
    """Return a number that a document holds, also as text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
