"""Coverages of every kind, for tests of what is encoded and of who decodes it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import FailedChunk
from icehouse_server.core.grid import Grid
from icehouse_server.core.plan import Region
from icehouse_server.core.ports import Pixels
from icehouse_server.output import Encoded, FilePart

POLAR: GeoBox = GeoBox((37, 53), Affine(32, 0, -200000.5, 0, -32, -1000000.25), "EPSG:3413")
GEOBOXES: Mapping[str, GeoBox] = {
    "polar": POLAR,
    "one": POLAR[3:4, 5:6],
    "row": POLAR[3:4, :],
    "degrees": GeoBox((20, 30), Affine(0.1, 0, 5.05, 0, -0.1, 50), "EPSG:4326"),
    "utm": GeoBox((20, 30), Affine(1 / 3, 0, 400000, 0, -1 / 3, 5.2e6), "EPSG:32633"),
    "antarctic": GeoBox((20, 30), Affine(1000, 0, -15000, 0, -1000, 10000), "EPSG:3031"),
    "south up": GeoBox((20, 30), Affine(10, 0, 400000, 0, 10, 5.2e6), "EPSG:32633"),
    "rotated": GeoBox(
        (20, 30), Affine.translation(4e5, 5.2e6) * Affine.rotation(33) * Affine.scale(10, -10), "EPSG:32633"
    ),
    "lambert": GeoBox((20, 30), Affine(100, 0, 6.5e5, 0, -100, 6.8e6), "EPSG:2154"),
    "unnamed": GeoBox(
        (20, 30), Affine(1000, 0, 0, 0, -1000, 0), "+proj=laea +lat_0=71 +lon_0=-42 +datum=WGS84 +units=m"
    ),
}
"""Geoboxes that break encoders: one pixel, one row, geographic, rotated, without an EPSG code."""

KINDS: tuple[tuple[str, float | None], ...] = (
    ("uint8", 0),
    ("uint8", None),
    ("int8", -128),
    ("uint16", 65535),
    ("int16", -9999),
    ("uint32", 4294967295),
    ("int32", None),
    ("float32", float("nan")),
    ("float32", -9999.0),
    ("float64", float("nan")),
    ("float64", None),
    ("int64", -9999),
    ("int64", -(2**63)),
    ("uint64", 2**64 - 1),
    ("uint64", None),
    ("float16", float("nan")),
    ("float16", -9984.0),
)
"""(dtype, nodata)."""


def make_band(dtype: str, nodata: float | None, name: str = "dem", **texts: str) -> BandSpec:
    """Return a band; ``texts`` are its units, long_name and resampling."""
    return replace(BandSpec(name=name, dtype=np.dtype(dtype), nodata=nodata), **texts)  # type: ignore[arg-type]


def pixels(band: BandSpec, geobox: GeoBox, seed: int = 1) -> Pixels:
    """Return noise over the whole range of a band's dtype, a fifth of it nodata."""
    rng = np.random.default_rng(seed)
    if band.dtype.kind == "f":
        values = rng.normal(size=geobox.shape, scale=100).astype(band.dtype)
    else:
        limits = np.iinfo(band.dtype.name)
        values = rng.integers(limits.min, limits.max, size=geobox.shape, endpoint=True, dtype=band.dtype)
    if band.nodata is not None and values.size > 1:
        values[rng.integers(5, size=values.shape) == 0] = band.fill
    return values


def make_coverage(
    bands: Sequence[BandSpec],
    geobox: GeoBox = POLAR,
    *,
    arrays: Mapping[str, Pixels] | None = None,
    failed: tuple[FailedChunk, ...] = (),
) -> Coverage:
    """Return a coverage of noise, or of the arrays given."""
    spec = CollectionSpec(
        id="test-32m",
        title="A test",
        description="",
        grid=Grid(geobox=POLAR, chunk=16),
        bands=tuple(bands),
        default_bands=tuple(band.name for band in bands),
        source_type="stac",
        source={},
        bbox=(-180, 60, 180, 90),
        license="CC-BY-4.0",
        attribution="The Øresund survey",
        citation="https://doi.org/10.0000/test",
    )
    given = arrays or {band.name: pixels(band, geobox, seed) for seed, band in enumerate(bands)}
    region = Region(collection=spec, bands=tuple(bands), target=geobox)
    return Coverage(region=region, bands=given, snapshot="SNAP1", failed=failed)


def joined(encoded: Encoded) -> bytes:
    """Return an answer in one piece."""
    content = b"".join(
        part.read(0, len(part)) if isinstance(part, FilePart) else part for part in encoded.parts
    )
    assert len(content) == encoded.length
    return content
