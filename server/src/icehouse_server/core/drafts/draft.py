"""A collection file in the making: what a source says of itself, and what it leaves open."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from odc.geo.crs import CRS

from icehouse_server.core.collection import BAND_PATTERN, RESERVED_NAMES

_LONGEST_ID = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GridWish:
    """What the user wants of the grid; the source decides what is left open."""

    crs: CRS | None = None
    resolution: float | None = None
    """In units of the CRS."""
    bbox: tuple[float, float, float, float] | None = None
    """minx, miny, maxx, maxy in ``bbox_crs``."""
    bbox_crs: CRS = field(default_factory=lambda: CRS("EPSG:4326"))

    @property
    def regrids(self) -> bool:
        """Whether the pixels are to be others than those of the source."""
        return self.crs is not None or self.resolution is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """What is looked at, and what is wanted of it."""

    address: str
    """A folder, a URL or the id of an asset, as the user wrote it."""
    wish: GridWish = GridWish()
    asset_hosts: tuple[str, ...] = ()
    """Hosts that the user vouches for, next to those that the address names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A comment of the file: what could not be known, or what was assumed."""

    where: str
    """The key or table that it stands above: ``license``, ``grid``, ``band:NAME``; empty for the head."""
    text: str
    """One or more sentences; a line that begins with a space is TOML to be uncommented."""
    fill_in: bool = False
    """True where the user has something to write or to decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftGrid:
    """The table ``[grid]``."""

    crs: str
    resolution: float
    bounds: tuple[float, float, float, float]
    chunk: int | None = None
    overviews: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftBand:
    """One entry of ``[[bands]]``."""

    name: str
    dtype: str
    nodata: float | int | None = None
    units: str = ""
    long_name: str = ""
    resampling: str = "nearest"
    scale: float = 1.0
    offset: float = 0.0
    source: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is known of a collection."""

    id: str
    title: str
    grid: DraftGrid
    source: Mapping[str, object]
    """``[source]`` with its ``type``; a value that is a mapping becomes a table of its own."""
    bands: tuple[DraftBand, ...]
    description: str = ""
    license: str = ""
    attribution: str = ""
    citation: str = ""
    keywords: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """(title, href)."""
    default_bands: tuple[str, ...] = ()
    interval: tuple[str | None, str | None] = (None, None)
    """RFC 3339 instants."""
    time: Mapping[str, object] = field(default_factory=dict)
    """``[time]``; empty where there is no time axis."""
    remarks: tuple[Remark, ...] = ()
    at: tuple[float, float] | None = None
    """Longitude and latitude of a place where there should be data."""
    moment: str | None = None
    """When there should be data, where there is a time axis."""


class Inspector(Protocol):
    """Looks at one kind of source, and says what a collection file for it would hold.

    It reads as the source itself does: the same clients, hosts, sizes and time limits.
    """

    def recognises(self, address: str) -> bool:
        """Return whether an address is one of this kind. Asks no other machine."""
        ...

    async def inspect(self, inquiry: Inquiry) -> Draft:
        """Look at a source.

        Raises:
            BadParameterError: the address, or what is wished of the grid, can't be used.
            SourceError: the source can't be read, or holds nothing that a collection could.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads. Safe to call twice."""
        ...


def id_of(text: str) -> str:
    """Return a text as the id of a collection: what an id can't hold becomes a hyphen."""
    found = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:_LONGEST_ID].strip("._-")
    return found or "collection"


def band_names(texts: Iterable[str]) -> list[str]:
    """Return texts as names of bands, all different."""
    found: list[str] = []
    for text in texts:
        found.append(_different(_band_name(text), found))
    return found


def _band_name(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:_LONGEST_ID]
    if not name:
        return "band_1"
    if not name[0].isalpha():
        name = f"b{name}"
    if name in RESERVED_NAMES or not BAND_PATTERN.fullmatch(name):
        name = f"band_{name}"
    return name[:_LONGEST_ID]


def _different(name: str, taken: Collection[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name[: _LONGEST_ID - 5]}_{number}"
    return found
