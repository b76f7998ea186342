"""A remote file is not trusted: its header is held against the collection before pixels are read."""

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from async_geotiff import GeoTIFF
from async_tiff import ImageFileDirectory
from async_tiff.enums import Compression, ExtraSamples, PhotometricInterpretation, PlanarConfiguration
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError

from icehouse_server.core.collection import BandSpec, dtype_hint
from icehouse_server.core.errors import SourceCorruptError
from icehouse_server.core.grid import Window
from icehouse_server.raster.units import Units
from icehouse_server.raster.validity import marked_by, number_of
from icehouse_server.sources.cog.georeference import lattice_window, same_crs
from icehouse_server.sources.cog.samples import is_decoded, pixel_dtype, sample_type

MAX_BLOCK = 64 * 1024 * 1024
"""Bytes of one decoded block at most: 4096 x 4096 float32. A header may claim any size."""

_MAX_BLOCKS = 4_000_000
_SLACK = 64 * 1024
"""Bytes by which a compressed block may exceed its pixels, for headers and tables of the codec."""

_NATIVE = frozenset({Compression.Uncompressed, Compression.LZW, Compression.Deflate, Compression.ZSTD})
_PLAIN = frozenset(
    {
        PhotometricInterpretation.BlackIsZero,
        PhotometricInterpretation.RGB,
        PhotometricInterpretation.TransparencyMask,
    }
)
_ALPHA = frozenset({ExtraSamples.AssociatedAlpha, ExtraSamples.UnassociatedAlpha})
_BYTE = 8

TRUST = "if the files are right and their items wrong, write trust_files = true under [source]"
"""What to do about an item document that contradicts its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an item document says of the place of a file; None where it does not say."""

    crs: str | None = None
    """Authority and code; not necessarily one that is known."""
    affine: Affine | None = None
    shape: tuple[int, int] | None = None
    """(rows, columns); given together with ``affine``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the collection and the item document promise of a file."""

    item: str
    href: str
    grid: GeoBox | None
    """Whose CRS and lattice it must have; None where the file itself says where it lies."""
    band: BandSpec
    index: int
    """Band of the file, from 1."""
    said: Said = Said()
    """What the item document says of the file's place."""
    tile_window: Window | None = None
    """Where the tiling puts the item, if there is a tiling: the file lies within."""
    nodata: float | None = None
    """What invalid pixels hold where the file does not say: the document's, else the band's."""
    units_known: bool = False
    """Whether the document gives scale and offset: then those of the file do not count."""

    def corrupt(self, detail: str, *, hint: str = "") -> SourceCorruptError:
        """Return the error that names item and file."""
        return SourceCorruptError(f"item {self.item!r}: {detail}", item=self.item, href=self.href, hint=hint)

    def unlike(self, units: Units) -> SourceCorruptError:
        """Return the error for a file whose values mean something else than the band's."""
        return self.corrupt(
            units.refusal(self.band), hint=f"{units.hint}; [source.composite] and harmonise = true convert"
        )


def check_file(geotiff: GeoTIFF, crs: str, affine: Affine, expected: Expectation) -> Window:
    """Check a header and return where the file lies on the grid.

    Args:
        geotiff: the open file.
        crs: its CRS as WKT.
        affine: its transform, north up.
        expected: what it must be.

    Raises:
        SourceCorruptError: CRS, lattice, dtype, number of bands, scale, size or block sizes are not as
            promised.
    """
    _check_said(geotiff, crs, affine, expected)
    if expected.grid is not None and not same_crs(str(expected.grid.crs), crs):
        raise expected.corrupt(
            f"its CRS is {CRS.from_wkt(crs).name!r}, the collection's is {expected.grid.crs}"
        )
    if pixel_dtype(geotiff.ifd) != expected.band.dtype:
        found = sample_type(geotiff.ifd)
        raise expected.corrupt(
            f"its data type is {found}, band {expected.band.name!r} has {expected.band.dtype}",
            hint=dtype_hint(found),
        )
    if not 1 <= expected.index <= geotiff.count:
        raise expected.corrupt(f"it has {geotiff.count} band(s), band {expected.index} was asked for")
    units = Units.of_file(geotiff.scales[expected.index - 1], geotiff.offsets[expected.index - 1])
    if units is not None and not expected.units_known and not units.are_those_of(expected.band):
        raise expected.unlike(units)
    extent = _extent(geotiff.shape, affine, expected)
    if expected.tile_window is not None and extent.union(expected.tile_window) != expected.tile_window:
        raise expected.corrupt(f"it covers {extent}, but its place in the tiling is {expected.tile_window}")
    for ifd in (geotiff.ifd, geotiff.mask_ifd):
        if ifd is not None:
            check_blocks(ifd, expected)
    return extent


def _check_said(geotiff: GeoTIFF, crs: str, affine: Affine, expected: Expectation) -> None:
    """Hold the item document against its file: where they differ, one of them would put pixels elsewhere."""
    said = expected.said
    if said.crs is not None and not _may_be(said.crs, crs):
        raise expected.corrupt(
            f"its document says that its CRS is {said.crs}, its file has {CRS.from_wkt(crs).name!r}",
            hint=TRUST,
        )
    if said.affine is None or said.shape is None:
        return
    rows, cols = said.shape
    own = lattice_window(GeoBox(said.shape, said.affine, None), affine, geotiff.shape)
    if own != Window(row=0, col=0, height=rows, width=cols):
        raise expected.corrupt(
            f"its document says proj:transform {_listed(said.affine)} and proj:shape [{rows}, {cols}], "
            f"its file has {_listed(affine)} and [{geotiff.shape[0]}, {geotiff.shape[1]}]",
            hint=TRUST,
        )


def _may_be(code: str, crs: str) -> bool:
    """Return whether a code can be that of a CRS; one that PROJ does not know can."""
    try:
        return same_crs(code, crs)
    except CRSError:
        return True


def _listed(affine: Affine) -> str:
    return f"[{', '.join(f'{number:.15g}' for number in tuple(affine)[:6])}]"


def _extent(shape: tuple[int, int], affine: Affine, expected: Expectation) -> Window:
    if expected.grid is None:
        rows, cols = shape
        return Window(row=0, col=0, height=rows, width=cols)
    extent = lattice_window(expected.grid, affine, shape)
    if extent is None:
        raise expected.corrupt(
            f"its pixels (transform {tuple(affine)[:6]}) do not lie on the collection's grid",
            hint=f"write resolution = {affine.a:.15g}, and bounds that are whole pixels away "
            f"from x {affine.c:.15g}, y {affine.f:.15g}",
        )
    return extent


def check_blocks(ifd: ImageFileDirectory, expected: Expectation) -> None:
    """Hold the sizes that a header claims against each other and against what a block may need.

    The decoders stop at a block's size, but for LZW: there the bound on compressed bytes is what limits a
    hostile block, which may inflate 1,300-fold.
    """
    rows, cols = block_shape(ifd)
    size = block_bytes(ifd)
    across = block_grid(ifd)
    count = across[0] * across[1] * (ifd.samples_per_pixel if planar(ifd) else 1)
    offsets, counts = block_table(ifd)
    if not 0 < size <= MAX_BLOCK or count > _MAX_BLOCKS:
        raise expected.corrupt(
            f"it has {count} blocks of {rows} x {cols} pixels, {size} bytes each; "
            f"the limits are {_MAX_BLOCKS} blocks and {MAX_BLOCK} bytes"
        )
    if len(offsets) != count or len(counts) != count:
        raise expected.corrupt(f"its header lists {len(offsets)} blocks, its size needs {count}")
    if max(counts, default=0) > 2 * size + _SLACK:
        raise expected.corrupt("a block claims far more bytes than its pixels need")


def block_shape(ifd: ImageFileDirectory) -> tuple[int, int]:
    """Return (rows, columns) of a block: a tile, or a strip."""
    if ifd.tile_width and ifd.tile_height:
        return ifd.tile_height, ifd.tile_width
    return min(ifd.rows_per_strip or ifd.image_height, ifd.image_height), ifd.image_width


def block_bytes(ifd: ImageFileDirectory) -> int:
    """Return the bytes of one block, decompressed."""
    rows, cols = block_shape(ifd)
    samples = 1 if planar(ifd) else ifd.samples_per_pixel
    row = math.ceil(cols * samples * max(ifd.bits_per_sample) / _BYTE)  # rows begin at a byte
    return rows * row


def block_grid(ifd: ImageFileDirectory) -> tuple[int, int]:
    """Return (rows, columns) of blocks."""
    rows, cols = block_shape(ifd)
    if rows <= 0 or cols <= 0:
        return 0, 0
    return math.ceil(ifd.image_height / rows), math.ceil(ifd.image_width / cols)


def block_table(ifd: ImageFileDirectory) -> tuple[list[int], list[int]]:
    """Return offsets and byte counts of the blocks, row by row (and plane by plane)."""
    if ifd.tile_width:
        return ifd.tile_offsets or [], ifd.tile_byte_counts or []
    return ifd.strip_offsets or [], ifd.strip_byte_counts or []


def planar(ifd: ImageFileDirectory) -> bool:
    """Return whether the bands of a file lie in planes of their own."""
    return ifd.samples_per_pixel > 1 and ifd.planar_configuration == PlanarConfiguration.Planar


def is_native(ifd: ImageFileDirectory) -> bool:
    """Return whether async-tiff reads this image as GDAL does; decided by type, never by trial.

    What is left to GDAL: strips, planes, palettes, samples that are not of whole bytes, half floats, JPEG
    and the other codecs.
    """
    return (
        bool(ifd.tile_width)
        and is_decoded(ifd)
        and not planar(ifd)
        and ifd.compression in _NATIVE
        and ifd.photometric_interpretation in _PLAIN
    )


def file_nodata(ifd: ImageFileDirectory, dtype: np.dtype[np.generic]) -> float | int | None:
    """Return the nodata that a file declares, or None where it declares none that a pixel could hold.

    As GDAL has it: a text without a number is 0, an empty one declares nothing.
    """
    if not ifd.gdal_nodata:
        return None
    number = number_of(ifd.gdal_nodata) or 0
    return None if marked_by(number, dtype) is None else number


def alpha_band(ifd: ImageFileDirectory) -> int | None:
    """Return which band of a file, from 1, says what is transparent; None where none does."""
    extra = ifd.extra_samples or []
    for number, kind in enumerate(extra, ifd.samples_per_pixel - len(extra) + 1):
        if kind in _ALPHA:
            return number
    return None
