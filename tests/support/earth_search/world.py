"""The Sentinel-2-like part of the Earth Search stand-in: its tiles, bands and scenes.

Tiles lie on both sides of longitude 12, where UTM zones 32 and 33 meet. They are a tenth as wide as the real
ones (10.98 km, 10 km apart), so that each overlaps its neighbours, in its own zone and in the other. Nothing
here reads a file or a socket. What the pixels are says `earth_pixels`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from affine import Affine

BUCKET: Final = "sentinel-cogs"
SENTINEL_2: Final = "sentinel-2-l2a"
STACK: Final = "sentinel-2-stack"
"""A hundred small scenes of one tile in July 2023."""
CELL_M: Final = 20
"""Clouds and surfaces are one per cell of this size: the pixel of scl."""
CLOUDS: Final = (3, 8, 9, 10)
"""Classes of scl that hide the ground: shadow, cloud of medium and high probability, thin cirrus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One raster of an item."""

    asset: str
    """Key among the item's assets."""
    file: str
    """Name in the scene's folder, without the suffix."""
    title: str
    pixel: int
    """Metres."""
    dtype: str = "uint16"
    level: int = 0
    """Where the band's values begin."""


BANDS: Final = {
    band.asset: band
    for band in (
        Band(asset="blue", file="B02", title="Blue (band 2) - 10m", pixel=10, level=300),
        Band(asset="green", file="B03", title="Green (band 3) - 10m", pixel=10, level=500),
        Band(asset="nir", file="B08", title="NIR 1 (band 8) - 10m", pixel=10, level=2200),
        Band(asset="red", file="B04", title="Red (band 4) - 10m", pixel=10, level=700),
        Band(asset="scl", file="SCL", title="Scene classification map (SCL)", pixel=20, dtype="uint8"),
        Band(asset="swir16", file="B11", title="SWIR 1 (band 11) - 20m", pixel=20, level=1500),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One square of the grid that items are cut by."""

    name: str
    """As MGRS names it, such as "33UTP"."""
    left: int
    top: int
    """Outer corner of the upper left pixel, metres of the tile's zone; multiples of `CELL_M`."""
    side: int = 10_980
    """Width and height in metres."""

    @property
    def zone(self) -> int:
        """The UTM zone."""
        return int(self.name[:2])

    @property
    def epsg(self) -> int:
        """Code of the zone's CRS."""
        return 32600 + self.zone


_EAST: Final = Tile(name="33UUP", left=278_760, top=5_339_000)
TILES: Final = (
    Tile(name="32UPU", left=708_760, top=5_339_000),
    Tile(name="32UQU", left=718_760, top=5_339_000),
    Tile(name="33UTP", left=268_760, top=5_339_000),
    _EAST,
)
"""32UQU and 33UTP overlap by about 5 km; longitude 12 runs through both."""
STACK_TILE: Final = Tile(name="33UVQ", left=400_000, top=5_400_000, side=2_560)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One item."""

    collection: str
    tile: Tile
    platform: str
    """"2A" or "2B"."""
    day: date
    sequence: int = 0
    """Tells several items of a tile and day apart."""
    cloudiness: float
    """Part of the ground that clouds hide, about; 0 to 1."""
    edge: float | None = None
    """Where the swath ends: there is no data where x + y / 4, from the tile's upper left corner, is more."""

    @property
    def item_id(self) -> str:
        """Such as "S2A_33UTP_20230105_0_L2A"."""
        return f"S{self.platform}_{self.tile.name}_{self.day:%Y%m%d}_{self.sequence}_L2A"

    @property
    def folder(self) -> str:
        """The scene's folder in the bucket, without a slash at the end."""
        name = self.tile.name
        place = f"{self.tile.zone}/{name[2]}/{name[3:]}/{self.day.year}/{self.day.month}"
        return f"sentinel-s2-l2a-cogs/{place}/{self.item_id}"

    @property
    def time(self) -> datetime:
        """When the tile was seen, UTC."""
        seconds = 6 * len(self.tile.name) + self.tile.left // 10_000 + 60 * self.sequence
        noon = datetime(self.day.year, self.day.month, self.day.day, 10, 14, tzinfo=UTC)
        return noon + timedelta(seconds=seconds, milliseconds=self.tile.top // 1000 % 1000)

    def key(self, asset: str) -> str:
        """The object's key in the bucket."""
        return f"{self.folder}/{BANDS[asset].file}.tif"

    def shape(self, asset: str) -> tuple[int, int]:
        """Rows and columns of an asset's raster."""
        side = self.tile.side // BANDS[asset].pixel
        return side, side

    def affine(self, asset: str) -> Affine:
        """Pixel corner to metres of the tile's zone, north up."""
        pixel = BANDS[asset].pixel
        return Affine(pixel, 0, self.tile.left, 0, -pixel, self.tile.top)


_DAYS: Final = (
    # day, platform, cloudiness, where the swath ends
    (date(2023, 1, 5), "2A", 0.35, None),
    (date(2023, 1, 10), "2B", 0.85, None),
    (date(2023, 1, 15), "2A", 0.10, 9_000.0),
    (date(2023, 1, 20), "2B", 0.55, None),
    (date(2023, 1, 30), "2B", 0.20, None),
    (date(2023, 2, 4), "2A", 0.45, 6_000.0),
    (date(2023, 2, 14), "2A", 0.15, None),
    (date(2023, 3, 1), "2B", 0.60, None),
    (date(2023, 3, 21), "2B", 0.05, None),
    (date(2023, 3, 31), "2B", 0.30, None),
    (date(2023, 5, 25), "2A", 0.25, None),
)
_NOT_SEEN: Final = frozenset({("33UUP", date(2023, 1, 15)), ("32UPU", date(2023, 2, 14))})


@functools.cache
def scenes(collection: str) -> tuple[Scene, ...]:
    """Every item of a collection, the newest first, those of one time by id. April 2023 has none.

    Raises:
        KeyError: if there is no such collection.
    """
    found = {SENTINEL_2: _survey, STACK: _stack}[collection]()
    return tuple(sorted(sorted(found, key=lambda scene: scene.item_id), key=_time, reverse=True))


def _time(scene: Scene) -> datetime:
    return scene.time


def _survey() -> list[Scene]:
    return [
        Scene(collection=SENTINEL_2, tile=tile, platform=platform, day=day, cloudiness=clouds, edge=edge)
        for day, platform, clouds, edge in _DAYS
        for tile in TILES
        if (tile.name, day) not in _NOT_SEEN
    ]


def _stack() -> list[Scene]:
    return [
        Scene(
            collection=STACK,
            tile=STACK_TILE,
            platform="2A" if number % 2 else "2B",
            day=date(2023, 7, 1 + number % 31),
            sequence=number // 31,
            cloudiness=number * 37 % 100 / 100,
        )
        for number in range(100)
    ]


@functools.cache
def scene_of_item(collection: str, item_id: str) -> Scene | None:
    """The scene of an item's id, or None."""
    return next((scene for scene in scenes(collection) if scene.item_id == item_id), None)


@functools.cache
def _by_folder() -> dict[str, Scene]:
    return {scene.folder: scene for name in (SENTINEL_2, STACK) for scene in scenes(name)}


def parse_key(key: str) -> tuple[Scene, Band]:
    """The scene and the band of an object's key.

    Raises:
        KeyError: if there is no such object.
    """
    folder, _, name = key.rpartition("/")
    files = {f"{band.file}.tif": band for band in BANDS.values()}
    return _by_folder()[folder], files[name]
