"""What the Polar Geospatial Center publishes, as data and arithmetic: domains, tile names, shapes, assets.

Nothing here reads a file or a socket. The facts are from PGC's own packaging programs and published
items.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from affine import Affine

API_URL: Final = "https://stac.pgc.umn.edu/api/v1/"
BUCKET: Final = "pgc-opendata-dems"
OBJECTS_URL: Final = "https://pgc-opendata-dems.s3.us-west-2.amazonaws.com/"
TILE_M: Final = 100_000
QUARTER_M: Final = 50_000
BLOCK: Final = 512
COG_TYPE: Final = "image/tiff; application=geotiff; profile=cloud-optimized"
FLOAT_NODATA: Final = -9999.0

_BUFFER_M: Final = {2: 100, 10: 100, 32: 96}
_ITEM_ID = re.compile(r"(\d\d_\d\d(?:_[12]_[12])?)_(2|10|32)m_v(\d\.\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One raster of an item."""

    key: str
    """The name in the item's assets."""
    title: str
    suffix: str
    """What the file's name ends with, after the item's id."""
    dtype: str
    nodata: float
    unit: str | None
    roles: tuple[str, ...]
    predictor: int
    """TIFF predictor: 1 none, 2 horizontal differences, 3 floating point."""
    overview: str
    """How overviews are resampled."""


ASSETS: Final = {
    asset.key: asset
    for asset in (
        Asset(
            key="hillshade", title="Hillshade", suffix="_browse.tif", dtype="uint8", nodata=0, unit=None,
            roles=("overview", "visual"), predictor=2, overview="cubic",
        ),
        Asset(
            key="dem", title="DEM", suffix="_dem.tif", dtype="float32", nodata=FLOAT_NODATA, unit="meter",
            roles=("data",), predictor=3, overview="bilinear",
        ),
        Asset(
            key="count", title="Count", suffix="_count.tif", dtype="uint8", nodata=0, unit=None,
            roles=("metadata", "count"), predictor=1, overview="nearest",
        ),
        Asset(
            key="mad", title="Median Absolute Deviation", suffix="_mad.tif", dtype="float32",
            nodata=FLOAT_NODATA, unit="meter", roles=("metadata", "mad"), predictor=3, overview="bilinear",
        ),
        Asset(
            key="maxdate", title="Max date", suffix="_maxdate.tif", dtype="int16", nodata=0, unit=None,
            roles=("metadata", "date"), predictor=1, overview="nearest",
        ),
        Asset(
            key="mindate", title="Min date", suffix="_mindate.tif", dtype="int16", nodata=0, unit=None,
            roles=("metadata", "date"), predictor=1, overview="nearest",
        ),
        Asset(
            key="datamask", title="Valid data mask", suffix="_datamask.tif", dtype="uint8", nodata=0,
            unit=None, roles=("metadata", "data-mask"), predictor=1, overview="nearest",
        ),
    )
}  # fmt: skip
METADATA_SUFFIX: Final = "_meta.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One of the two mosaics."""

    name: str
    title: str
    version: str
    epsg: int
    origin: int
    """Tile 01_01 begins at x = y = -origin metres."""
    rows: tuple[int, int]
    """First and last row of the tile grid, both included; the same for `columns`."""
    columns: tuple[int, int]
    seed: int
    """Of the synthetic terrain."""
    assets: tuple[str, ...] = field(default=tuple(ASSETS))


ARCTICDEM: Final = Domain(
    name="arcticdem",
    title="ArcticDEM",
    version="4.1",
    epsg=3413,
    origin=4_000_000,
    rows=(7, 81),
    columns=(1, 74),
    seed=0,
)
REMA: Final = Domain(
    name="rema", title="REMA", version="2.0", epsg=3031, origin=3_000_000, rows=(1, 60), columns=(1, 60),
    seed=7000, assets=tuple(key for key in ASSETS if key != "datamask"),
)  # fmt: skip
DOMAINS: Final = {domain.name: domain for domain in (ARCTICDEM, REMA)}
RESOLUTIONS: Final = ("2m", "10m", "32m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One item of a mosaic: a 100 km tile, or a 50 km quarter of one at 2 m."""

    domain: Domain
    resolution: int
    """Pixel size in metres: 2, 10 or 32."""
    row: int
    """From 1, growing with y. `column` grows with x."""
    column: int
    quarter: tuple[int, int] | None
    """At 2 m (sub-row, sub-column), each 1 or 2 with 1 in the south and west; otherwise None."""

    @property
    def supertile(self) -> str:
        """Name of the 100 km tile, such as "67_33"."""
        return f"{self.row:02d}_{self.column:02d}"

    @property
    def name(self) -> str:
        """Name of the tile, such as "67_33" or "44_74_1_2"."""
        return self.supertile + ("" if self.quarter is None else f"_{self.quarter[0]}_{self.quarter[1]}")

    @property
    def item_id(self) -> str:
        """Such as "67_33_32m_v4.1"."""
        return f"{self.name}_{self.resolution}m_v{self.domain.version}"

    @property
    def collection(self) -> str:
        """Such as "arcticdem-mosaics-v4.1-32m"."""
        return collection_id(self.domain, self.resolution)

    @property
    def folder(self) -> str:
        """The object store's folder with the item's files, without a slash at the end."""
        return f"{self.domain.name}/mosaics/v{self.domain.version}/{self.resolution}m/{self.supertile}"

    @property
    def core(self) -> tuple[int, int, int, int]:
        """Left, bottom, right, top in metres, without the buffer."""
        left = (self.column - 1) * TILE_M - self.domain.origin
        bottom = (self.row - 1) * TILE_M - self.domain.origin
        if self.quarter is None:
            return left, bottom, left + TILE_M, bottom + TILE_M
        bottom, left = bottom + (self.quarter[0] - 1) * QUARTER_M, left + (self.quarter[1] - 1) * QUARTER_M
        return left, bottom, left + QUARTER_M, bottom + QUARTER_M

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Left, bottom, right, top in metres, with the buffer: the raster's extent."""
        left, bottom, right, top = self.core
        buffer = _BUFFER_M[self.resolution]
        return left - buffer, bottom - buffer, right + buffer, top + buffer

    def pixel(self, asset: str) -> int:
        """Pixel size of an asset in metres: at 2 m the hillshade is published at 10 m."""
        return 10 if asset == "hillshade" and self.quarter is not None else self.resolution

    def shape(self, asset: str = "dem") -> tuple[int, int]:
        """Rows and columns of an asset's raster."""
        left, bottom, right, top = self.bounds
        return (top - bottom) // self.pixel(asset), (right - left) // self.pixel(asset)

    def affine(self, asset: str = "dem") -> Affine:
        """Pixel corner to plane coordinates, north up."""
        left, _, _, top = self.bounds
        return Affine(self.pixel(asset), 0, left, 0, -self.pixel(asset), top)

    def key(self, asset: str) -> str:
        """The object's key in the bucket; `asset` may also be "metadata"."""
        suffix = METADATA_SUFFIX if asset == "metadata" else ASSETS[asset].suffix
        return f"{self.folder}/{self.item_id}{suffix}"


def collection_id(domain: Domain, resolution: int) -> str:
    """Such as "arcticdem-mosaics-v4.1-32m"."""
    return f"{domain.name}-mosaics-v{domain.version}-{resolution}m"


def collections() -> dict[str, tuple[Domain, int]]:
    """Every collection the stand-in serves, by its id."""
    return {
        collection_id(domain, int(text[:-1])): (domain, int(text[:-1]))
        for domain in DOMAINS.values()
        for text in RESOLUTIONS
    }


def tile_of(domain: str, resolution: str, name: str) -> Tile:
    """The tile called `name`, as ("arcticdem", "32m", "67_33") or ("arcticdem", "2m", "44_74_1_2").

    Raises:
        ValueError: if such a tile can't be named at that resolution.
    """
    parts = [int(part) for part in name.split("_")]
    quartered = resolution == "2m"
    if resolution not in RESOLUTIONS or len(parts) != (4 if quartered else 2):
        raise ValueError(f"{name!r} is not a tile at {resolution}")
    quarter = (parts[2], parts[3]) if quartered else None
    return Tile(
        domain=DOMAINS[domain],
        resolution=int(resolution[:-1]),
        row=parts[0],
        column=parts[1],
        quarter=quarter,
    )


def tile_of_item(item_id: str, domain: str) -> Tile:
    """The tile of an item id such as "67_33_32m_v4.1".

    Raises:
        ValueError: if the id is none of this domain's.
    """
    match = _ITEM_ID.fullmatch(item_id)
    if match is None or match[3] != DOMAINS[domain].version:
        raise ValueError(f"{item_id!r} is not an item of {domain}")
    return tile_of(domain, f"{match[2]}m", match[1])


def parse_key(key: str) -> tuple[Tile, str]:
    """The tile and the asset ("dem", ..., "metadata") of an object's key.

    Raises:
        ValueError: if no published object could have this key.
    """
    domain, _, name = key.partition("/")[0], None, key.rpartition("/")[2]
    suffixes = {asset.key: asset.suffix for asset in ASSETS.values()} | {"metadata": METADATA_SUFFIX}
    for asset, suffix in suffixes.items():
        if domain in DOMAINS and name.endswith(suffix):
            tile = tile_of_item(name.removesuffix(suffix), domain)
            if tile.key(asset) == key and (asset == "metadata" or asset in tile.domain.assets):
                return tile, asset
    raise ValueError(f"{key!r} is not a published object")
