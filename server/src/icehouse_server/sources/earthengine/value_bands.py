"""What is asked of Earth Engine for some bands, and how the answer becomes bands again.

An answer says nothing about masks, so they are made explicit. A band with nodata is asked for with a
sentinel at masked pixels. Of a band without nodata every value is legal: its mask is a bit of a mask band,
eight to a byte.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.errors import SourceCorruptError, SourceUnavailableError
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import BandBlock, Mask, Pixels
from icehouse_server.sources.earthengine.request_cutting import MAX_BANDS, MAX_BYTES
from icehouse_server.sources.earthengine.settings import BandTable

_BITS = 8
_UNLIKELY = float(np.finfo(np.float32).min)
"""Stands for NaN on the wire, where there is none: the lowest float32."""

_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class ValueBand:
    """The values of a band at Earth Engine, in the dtype of one of ours."""

    band: str
    dtype: np.dtype[np.generic]
    sentinel: float | int
    """What masked pixels hold."""


@dataclass(frozen=True, slots=True)
class MaskBit:
    """Where a band at Earth Engine has a value."""

    band: str
    dtype: np.dtype[np.generic] | None
    """Where it has one that fits this dtype; None for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The bands of a request. Those of the values are named v0, v1, ...; those of masks m0, m1, ..."""

    values: tuple[ValueBand, ...]
    bits: tuple[MaskBit, ...]

    @classmethod
    def of(cls, bands: Sequence[BandSpec], tables: Mapping[str, BandTable]) -> "Layout":
        """Return what must be asked for some bands."""
        values: dict[ValueBand, None] = {}
        bits: dict[MaskBit, None] = {}
        for band in bands:
            value, bit = needs(band, tables[band.name])
            values.update({} if value is None else {value: None})
            bits.update({} if bit is None else {bit: None})
        return cls(values=tuple(values), bits=tuple(bits))

    @property
    def mask_bands(self) -> tuple[tuple[MaskBit, ...], ...]:
        """The bits of each mask band, the lowest first."""
        return tuple(self.bits[n : n + _BITS] for n in range(0, len(self.bits), _BITS))

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Fields of an answer, in order."""
        values = [(f"v{n}", value.dtype) for n, value in enumerate(self.values)]
        masks = [(f"m{n}", np.dtype(np.uint8)) for n in range(len(self.mask_bands))]
        return np.dtype([*values, *masks])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.dtype.names or ()

    @property
    def max_pixels(self) -> int:
        """Pixels of one request at most: Earth Engine counts a byte of mask for each band."""
        return MAX_BYTES // (self.dtype.itemsize + len(self.names))

    @property
    def source_bands(self) -> tuple[str, ...]:
        """Bands at Earth Engine that they are made of."""
        names = [*(value.band for value in self.values), *(bit.band for bit in self.bits)]
        return tuple(dict.fromkeys(names))


def needs(band: BandSpec, table: BandTable) -> tuple[ValueBand | None, MaskBit | None]:
    """Return the value band and the bit of a mask that a band is made of."""
    if table.mask_of is not None:
        return None, MaskBit(table.mask_of, None)
    name = table.band or band.name
    if band.nodata is None:
        return ValueBand(name, band.dtype, 0), MaskBit(name, band.dtype)
    return ValueBand(name, band.dtype, _UNLIKELY if np.isnan(band.nodata) else band.nodata), None


def band_batches(bands: Sequence[BandSpec], tables: Mapping[str, BandTable]) -> list[Sequence[BandSpec]]:
    """Cut a list of bands into as many as one request may have."""
    if len(Layout.of(bands, tables).names) <= MAX_BANDS:
        return [bands]
    half = len(bands) // 2
    return band_batches(bands[:half], tables) + band_batches(bands[half:], tables)


@dataclass(frozen=True, slots=True)
class Canvas:
    """The bands of an area of the grid, put together from requests; masked where nothing was put."""

    layout: Layout
    area: Window
    arrays: Mapping[str, NDArray[np.generic]]

    @classmethod
    def blank(cls, layout: Layout, area: Window) -> "Canvas":
        """Return a canvas on which everything is masked."""
        shape = area.height, area.width
        arrays: dict[str, NDArray[np.generic]] = {
            f"v{n}": np.full(shape, value.sentinel, dtype=value.dtype)
            for n, value in enumerate(layout.values)
        }
        arrays |= {f"m{n}": np.zeros(shape, dtype=np.uint8) for n in range(len(layout.mask_bands))}
        return cls(layout, area, arrays)

    def put(self, window: Window, answer: bytes) -> None:
        """Copy an answer to its window. Windows of threads that do so at once must not overlap.

        Raises:
            SourceUnavailableError: it is not an NPY file, or is cut off.
            SourceCorruptError: it holds other bands, dtypes or shapes than asked for.
        """
        found = decode(answer, self.layout, (window.height, window.width))
        for name, array in self.arrays.items():
            array[window.slices(self.area)] = found[name]

    def band(self, band: BandSpec, table: BandTable) -> BandBlock:
        """Return a band of the whole area."""
        value, bit = needs(band, table)
        marked = None if bit is None else self._bit(bit)
        if value is None:
            mask = cast("Mask", marked)
            return BandBlock(values=cast("Pixels", mask.astype(band.dtype)), valid=mask)
        values = self.arrays[f"v{self.layout.values.index(value)}"]
        valid = values != values.dtype.type(value.sentinel) if marked is None else marked
        if band.dtype.kind == "f":
            # Beyond float32 there is infinity only; and where NaN is nodata, NaN is not a value.
            valid &= ~np.isinf(cast("NDArray[np.floating]", values))
            if band.nodata is not None and np.isnan(band.nodata):
                valid &= ~np.isnan(cast("NDArray[np.floating]", values))
        return BandBlock(values=cast("Pixels", values), valid=cast("Mask", valid))

    def _bit(self, bit: MaskBit) -> Mask:
        number, position = divmod(self.layout.bits.index(bit), _BITS)
        packed = cast("NDArray[np.uint8]", self.arrays[f"m{number}"])
        return cast("Mask", (packed >> np.uint8(position)) & np.uint8(1) != 0)


def decode(answer: bytes, layout: Layout, shape: tuple[int, int]) -> NDArray[np.void]:
    """Return the pixels of an answer, a structured array (rows, columns) of the layout's dtype.

    The header is looked at before anything is made from it: it may say whatever it likes.

    Raises:
        SourceUnavailableError: it is not an NPY file, or is cut off.
        SourceCorruptError: it holds other bands, dtypes or shapes than asked for.
    """
    if not answer.startswith(_MAGIC):
        raise SourceUnavailableError("Earth Engine answered with something else than pixels")
    file = io.BytesIO(answer)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        got, by_columns, dtype = read(file)
    except Exception as error:  # a header is Python: its parser raises whatever it likes
        raise SourceCorruptError("Earth Engine's answer has no readable header") from error
    if dtype.names != layout.names:
        raise SourceCorruptError(f"Earth Engine sent the bands {dtype.names}, not {layout.names}"[:300])
    for name in layout.names:
        if dtype[name] != layout.dtype[name]:
            raise SourceCorruptError(
                f"Earth Engine sent band {name} as {dtype[name]}, not {layout.dtype[name]}"
            )
    if got != shape or by_columns:
        raise SourceCorruptError(f"Earth Engine sent {got} pixels, not {shape}")
    size = dtype.itemsize * shape[0] * shape[1]
    if len(answer) - file.tell() != size:
        raise SourceUnavailableError("Earth Engine's answer is not as long as its pixels")
    pixels = np.frombuffer(answer, dtype=dtype, offset=file.tell()).reshape(shape)
    return cast("NDArray[np.void]", pixels)
