"""What there is in the stand-in Earth Engine, and the pixels: pure functions of place, band and image.

An asset has a lattice: a CRS and a step, with pixel corners at multiples of the step. A value belongs to a
pixel of the lattice, and a request sees the pixel in which the centre of its own pixel lies: Earth Engine's
nearest neighbour. So all requests that share a grid see the same pixels.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from icehouse_server.testing.earthengine.types import PixelType, of_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

type Box = tuple[float, float, float, float]
"""Left, bottom, right, top in the asset's CRS."""
type Numbers = NDArray[Any]
type Flags = NDArray[np.bool_]

TCTREND_STEP: Final = 0.00026949458523585647
EMBEDDING_STEP: Final = 8.98315284e-05
YEARS: Final = range(2017, 2026)
"""Of the embeddings."""

TCTREND: Final[dict[str, str]] = {
    "2019": "users/ingmarnitze/TCTrend_SR_2000-2019_TCVIS",
    "2020": "users/ingmarnitze/TCTrend_SR_2001-2020_TCVIS",
    "2022": "users/ingmarnitze/TCTrend_SR_2003-2022_TCVIS",
    "2024": "projects/ee-ingmarnitze/assets/TCTrend_SR_2005-2024_TCVIS",
}
"""Last year to the id of the collection."""
EMBEDDINGS: Final = "GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL"
MIXED: Final = "projects/standin/assets/mixed"
"""One image in EPSG:3413, bands of six dtypes with masks of their own."""
DATED: Final = "projects/standin/assets/dated"
"""A collection in EPSG:32633: B4, B8 and SCL (a classification) at seven dates, of different extents."""
FORBIDDEN: Final = "projects/standin/assets/forbidden"
"""Exists, but nobody may read it."""
MISSING: Final = "projects/standin/assets/missing"
"""Does not exist, like all that is not named here."""

OCEANS: Final[dict[str, tuple[Box, ...]]] = {
    "tctrend": ((-172.0, 62.0, -168.0, 66.0), (5.0, 72.0, 15.0, 75.0)),
    "embeddings": ((-30.0, 60.0, -25.0, 65.0),),
}
"""Where every image is masked."""
OVERLAP: Final = 0.5
"""Degrees of longitude that an image of a TCTrend collection shares with the one before it."""
DIFFERENT: Final = (70.0, 71.0)
"""Latitudes at which the later image of two that overlap has other values: `+ 100` modulo 256."""
PIERCED: Final = (71.0, 72.0)
"""Latitudes at which the later image of two that overlap is masked in every second block of 8 x 8 pixels."""
CLASSES: Final = (4, 5, 6, 8, 9, 3, 11, 4)
"""The values of `SCL`; 3, 8 and 9 are shadow and clouds, as in Sentinel-2's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band of an asset."""

    name: str
    type: PixelType
    mask: str = ""
    """Name of its mask; bands with the same share it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One image of an asset."""

    index: str
    """The last part of its id; empty for an asset that is an image itself."""
    box: Box
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    properties: Mapping[str, str | float] = field(default_factory=dict)
    number: int = 0
    """Its place in the collection, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asset:
    """An image or a collection of images that share bands and lattice."""

    id: str
    kind: str
    """Which functions make its pixels."""
    collection: bool
    crs: str
    step: float
    bands: tuple[Band, ...]
    tiles: tuple[Tile, ...]
    seed: int

    def band(self, name: str) -> Band:
        """The band of a name."""
        return next(band for band in self.bands if band.name == name)


def find(name: str) -> Asset | None:
    """The asset of an id, such as "users/x" or its long form "projects/earthengine-legacy/assets/users/x"."""
    return assets().get(short(name))


def short(name: str) -> str:
    """The id of an asset, from its name in the REST API."""
    for prefix in ("projects/earthengine-legacy/assets/", "projects/earthengine-public/assets/"):
        name = name.removeprefix(prefix)
    return name.removesuffix("/")


@functools.cache
def assets() -> dict[str, Asset]:
    """All assets by id, `FORBIDDEN` too."""
    made = (*_trends(), _embeddings(), _mixed(), _dated())
    found = {asset.id: asset for asset in made}
    return {**found, FORBIDDEN: found[DATED]}


def _trends() -> Iterator[Asset]:
    bands = tuple(Band(name=f"TC{kind}_slope", type=of_dtype("uint8")) for kind in "BGW")
    edges = range(-180, 180, 30)
    tiles = tuple(
        Tile(
            index=f"tile_{number:02d}",
            box=(max(west - OVERLAP, -180.0), 48.0, west + 30.0, 84.0),
            number=number,
        )
        for number, west in enumerate(edges)
    )
    for seed, name in enumerate(TCTREND.values()):
        yield Asset(
            id=name,
            kind="tctrend",
            collection=True,
            crs="EPSG:4326",
            step=TCTREND_STEP,
            bands=bands,
            tiles=tiles,
            seed=seed,
        )


def _embeddings() -> Asset:
    tiles = []
    for number, (year, zone, half) in enumerate(itertools.product(YEARS, range(1, 61), "NS")):
        west = -186.0 + 6 * zone
        south, north = (0.0, 82.0) if half == "N" else (-80.0, 0.0)
        tiles.append(
            Tile(
                index=f"{year}_{zone:02d}{half}",
                box=(max(west - 0.05, -180.0), south, min(west + 6.05, 180.0), north),
                start=_utc(year, 1, 1),
                end=_utc(year + 1, 1, 1),
                properties={
                    "UTM_ZONE": f"{zone}{half}",
                    "MODEL_VERSION": "1.0.0",
                    "PROCESSING_SOFTWARE_VERSION": "1.0.0",
                    "DATASET_VERSION": "1.0",
                },
                number=number,
            )
        )
    return Asset(
        id=EMBEDDINGS,
        kind="embeddings",
        collection=True,
        crs="EPSG:4326",
        step=EMBEDDING_STEP,
        bands=tuple(Band(name=f"A{index:02d}", type=of_dtype("float64")) for index in range(64)),
        tiles=tuple(tiles),
        seed=17,
    )


def _mixed() -> Asset:
    dtypes = {
        "elevation": "float32",
        "landcover": "uint8",
        "change": "int16",
        "count": "int32",
        "flags": "uint16",
        "index": "float64",
    }
    return Asset(
        id=MIXED,
        kind="mixed",
        collection=False,
        crs="EPSG:3413",
        step=30.0,
        bands=tuple(Band(name=name, type=of_dtype(dtype), mask=name) for name, dtype in dtypes.items()),
        tiles=(Tile(index="", box=(-750_000.0, 2_610_000.0, -690_000.0, 2_670_000.0)),),
        seed=29,
    )


def _dated() -> Asset:
    days = [
        (2021, 6, 1),
        (2021, 6, 11),
        (2021, 6, 21),
        (2021, 7, 1),
        (2021, 7, 11),
        (2022, 6, 5),
        (2022, 7, 5),
    ]
    left, bottom, side, shift = 500_000.0, 8_600_000.0, 20_000.0, 1_000.0
    tiles = tuple(
        Tile(
            index=f"{year}{month:02d}{day:02d}",
            box=(left + number * shift, bottom, left + number * shift + side, bottom + side),
            start=_utc(year, month, day),
            end=_utc(year, month, day) + dt.timedelta(minutes=1),
            properties={"CLOUDY_PIXEL_PERCENTAGE": float(37 * number % 100)},
            number=number,
        )
        for number, (year, month, day) in enumerate(days)
    )
    bands = (
        Band(name="B4", type=of_dtype("uint16"), mask="holes"),
        Band(name="B8", type=of_dtype("uint16"), mask="holes"),
        Band(name="SCL", type=of_dtype("uint8")),
    )
    return Asset(
        id=DATED,
        kind="dated",
        collection=True,
        crs="EPSG:32633",
        step=10.0,
        bands=bands,
        tiles=tiles,
        seed=41,
    )


def _utc(year: int, month: int, day: int) -> dt.datetime:
    return dt.datetime(year, month, day, tzinfo=dt.UTC)


def valid(asset: Asset, tile: Tile, band: Band, x: Numbers, y: Numbers) -> Flags:
    """Where an image has a value at all.

    Args:
        asset: The asset.
        tile: One of its images.
        band: One of its bands; the answer depends on `band.mask` alone.
        x: Places in the asset's CRS, as a row (1, n) or an array (m, n).
        y: The same, as a column (m, 1) or an array (m, n).

    Returns:
        Flags of a shape that broadcasts to (m, n).
    """
    inside = _within(tile.box, x, y)
    for ocean in OCEANS.get(asset.kind, ()):
        inside = inside & ~_within(ocean, x, y)
    if not inside.any():
        return inside
    col, row = _pixel(asset, x), _pixel(asset, y)
    match asset.kind:
        case "tctrend":
            inside = inside & ~_hole(col, row, asset.seed)
            if tile.number > 0:
                later = _within((tile.box[0], PIERCED[0], tile.box[0] + OVERLAP, PIERCED[1]), x, y)
                inside = inside & ~(later & (((col >> 3) + (row >> 3)) % 2 == 1))
        case "mixed":
            inside = inside & ~_hole(col, row, asset.seed + sum(map(ord, band.mask)))
        case "dated" if band.mask:
            inside = inside & ~_hole(col, row, asset.seed + tile.number)
    return inside


def values(asset: Asset, tile: Tile, band: Band, x: Numbers, y: Numbers) -> Numbers:
    """The pixels of an image at places in the asset's CRS, whether masked or not; see `valid`."""
    col, row = _pixel(asset, x), _pixel(asset, y)
    number = asset.bands.index(band)
    match asset.kind:
        case "tctrend":
            numbers = _relief(col, row, asset.seed * 3 + number, 256)
            later = _within((tile.box[0], DIFFERENT[0], tile.box[0] + OVERLAP, DIFFERENT[1]), x, y)
            if tile.number > 0 and later.any():
                numbers = np.where(later, (numbers + 100) & 255, numbers)
        case "embeddings":
            year = tile.start.year if tile.start else 0
            # Bands come in pairs, the cosine and the sine of one angle: together they have length 1.
            angle = _mix(col, row, asset.seed + year * 64 + number // 2) >> np.uint32(20)
            return _circle(number % 2)[angle]
        case "mixed":
            numbers = _mixture(band.name, col, row, asset.seed)
        case _:
            numbers = _dated_numbers(band.name, col, row, asset.seed + 10 * tile.number)
    return numbers.astype(band.type.dtype)


def _mixture(name: str, col: Numbers, row: Numbers, seed: int) -> Numbers:
    """What the bands of `MIXED` hold."""
    rough = _mix(col, row, seed + len(name)).astype(np.int64)
    formulas = {
        "elevation": lambda: _relief(col, row, seed, 2000) + (rough & 1023) / 1024 - 100,
        "landcover": lambda: _mix(col >> 4, row >> 4, seed) % np.uint32(11),
        "change": lambda: (rough & 0xFFFF) - 0x8000,
        "count": lambda: rough - 2**31,
        "flags": lambda: rough & 0xFFFF,
        "index": lambda: rough / 2**31 - 1.0,
    }
    return np.asarray(formulas[name]())


def _dated_numbers(name: str, col: Numbers, row: Numbers, seed: int) -> Numbers:
    """What the bands of `DATED` hold."""
    if name == "SCL":
        return np.asarray(CLASSES)[_mix(col >> 4, row >> 4, seed) & np.uint32(7)]
    return _relief(col, row, seed + len(name) * (name == "B8"), 8000) + 200


def _pixel(asset: Asset, places: Numbers) -> Numbers:
    """The pixels of the lattice in which places lie."""
    return np.floor(places / asset.step).astype(np.int64)


def _within(box: Box, x: Numbers, y: Numbers) -> Flags:
    left, bottom, right, top = box
    return np.asarray(((x >= left) & (x < right)) & ((y >= bottom) & (y < top)))


def _hole(col: Numbers, row: Numbers, seed: int) -> Flags:
    """A hole of 3 x 3 pixels in every fifth block of 64 x 64 or so."""
    block = _mix(col >> 6, row >> 6, seed)
    across, down = (col & 63) - (block >> np.uint32(8) & np.uint32(59)).astype(np.int64), (row & 63)
    return (block % np.uint32(5) == 0) & (across >= 0) & (across < 3) & (down >= 20) & (down < 23)  # noqa: PLR2004


def _relief(col: Numbers, row: Numbers, seed: int, height: int) -> Numbers:
    """Slopes that rise and fall, with a little noise so that neighbours differ: 0 to `height` - 1."""
    room = height - 16
    slopes = _saw(col + seed * 1009, room) + _saw(row * 2 + seed * 2003, room)
    return (slopes >> 1) + (_mix(col, row, seed) & np.uint32(15)).astype(np.int64)


def _saw(numbers: Numbers, height: int) -> Numbers:
    return np.asarray(np.abs(numbers % (2 * height) - height))


def _mix(col: Numbers, row: Numbers, seed: int) -> Numbers:
    """Unsigned 32-bit noise of a pixel's place."""
    factors = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
    across = (col * factors[0] & 0xFFFFFFFF).astype(np.uint32)
    down = (row * factors[1] + seed * factors[2] & 0xFFFFFFFF).astype(np.uint32)
    mixed = across ^ down
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed ^= mixed >> np.uint32(12)
    mixed *= np.uint32(0x297A2D39)
    mixed ^= mixed >> np.uint32(15)
    return mixed


@functools.cache
def _circle(half: int) -> Numbers:
    """4096 angles to the cosines (0) or sines (1) of a vector of 32 pairs whose length is 1."""
    angles = np.arange(4096) * (2 * np.pi / 4096)
    return np.asarray((np.sin if half else np.cos)(angles) / np.sqrt(32))
