"""What there is in the stand-in Earth Engine: its assets, and what is odd about them.

An asset has a lattice: a CRS and a step, with pixel corners at multiples of the step. `surface` says what its
pixels are.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from support.earthengine.types import PixelType, of_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

type Box = tuple[float, float, float, float]
"""Left, bottom, right, top in the asset's CRS."""

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
SRTM: Final = "USGS/SRTMGL1_003"
"""One image of heights in EPSG:4326."""
MIXED: Final = "projects/standin/assets/mixed"
"""One image in EPSG:3413, bands of six dtypes with masks of their own."""
DATED: Final = "projects/standin/assets/dated"
"""A collection in EPSG:32633: B4, B8 and SCL (a classification) at seven dates, of different extents."""
FORBIDDEN: Final = "projects/standin/assets/forbidden"
"""Exists, but can't be read."""
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
    made = (*_trends(), _embeddings(), _srtm(), _mixed(), _dated())
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


def _srtm() -> Asset:
    return Asset(
        id=SRTM,
        kind="mixed",
        collection=False,
        crs="EPSG:4326",
        step=1 / 3600,
        bands=(Band(name="elevation", type=of_dtype("int16"), mask="elevation"),),
        tiles=(Tile(index="", box=(-180.0, -56.0, 180.0, 60.0)),),
        seed=31,
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
