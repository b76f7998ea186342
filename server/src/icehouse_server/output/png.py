"""A quick look: bands stretched to eight bits as PNG, transparent where invalid."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.plan import Region
from icehouse_server.core.ports import Pixels, Validity
from icehouse_server.output.encoded import Part
from icehouse_server.output.scratch import IN_MEMORY, Scratch
from icehouse_server.raster.validity import visible

type Samples = NDArray[np.uint8]
type Interval = tuple[float, float]

STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""

_STRIP = 1 << 18
"""Pixels that are computed with at a time, as float64 in several copies: 64 bytes each for three bands."""

_PILLOW_MEMORY = 1 << 18
"""Bytes for Pillow's buffers."""

_RGB = 3
_LEVEL = 1
"""Deflate's level: a quick look is looked at once, and level 6 takes five times as long for a fifth less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A band of the picture, and what becomes black and white."""

    values: Pixels
    band: BandSpec
    between: Interval | None

    @classmethod
    def of(cls, values: Pixels, band: BandSpec) -> Self:
        """Find the range of a band."""
        return cls(values=values, band=band, between=stretch_range(values, band))

    def mask(self, rows: slice) -> Validity:
        """Return which pixels of some rows are valid."""
        return visible(self.values[rows], self.band)

    def samples(self, rows: slice, mask: Validity) -> Samples:
        """Return pixels of some rows as 0 to 255, linear between two values; 0 where invalid."""
        samples = np.zeros(mask.shape, dtype=np.uint8)
        if self.between is None:
            return samples
        low, high = self.between
        if high <= low:
            samples[mask] = 127
            return samples
        known = self.values[rows][mask].astype(np.float64)
        samples[mask] = np.rint(np.clip((known - low) / (high - low), 0, 1) * 255)
        return samples


def encode_png(coverage: Coverage, _: Scratch = IN_MEMORY) -> list[Part]:
    """Encode a coverage as PNG with alpha.

    One band, or two, give a picture in grey of the first; three or more give one of the first three as red,
    green and blue. Each band is stretched for itself. A pixel is transparent where any shown band is invalid.

    Returns:
        One part: the file.

    Raises:
        BadParameterError: there is more than one time step, and a picture shows one.
    """
    bands, times = coverage.region.bands, coverage.region.times
    if times is not None and len(times) != 1:
        raise BadParameterError(
            "datetime",
            f"datetime: a picture shows one time step, and {len(times)} are asked for",
            hint="name one step, or ask for netcdf, geotiff or zarr",
        )
    shown = bands[:_RGB] if len(bands) >= _RGB else bands[:1]
    rows, cols = coverage.region.shape
    layers = [_Layer.of(coverage.bands[band.name].reshape(rows, cols), band) for band in shown]
    strips = list(_strips(rows, cols))
    if len(strips) == 1:
        return [_saved(Image.fromarray(_samples(layers, strips[0])))]
    image = Image.new("RGBA" if len(shown) == _RGB else "LA", (cols, rows))
    for strip in strips:
        image.paste(Image.fromarray(_samples(layers, strip)), (0, strip.start))
    return [_saved(image)]


def png_memory(region: Region, _: Scratch) -> int:
    """Return bytes that ``encode_png`` takes at most, in addition to the pixels."""
    rows, cols = region.shape
    largest = max(band.dtype.itemsize for band in region.bands)
    channels = 4 if len(region.bands) >= _RGB else 2
    # The valid pixels of a band, to find its range; then Pillow's image, of 4 bytes a pixel, and the file.
    return rows * cols * max(largest, 4 + channels) + 64 * min(_STRIP, rows * cols) + _PILLOW_MEMORY


def _strips(rows: int, cols: int) -> Iterator[slice]:
    """Cut a picture into strips of whole rows."""
    each = max(1, _STRIP // cols)
    for first in range(0, rows, each):
        yield slice(first, min(rows, first + each))


def _samples(layers: Sequence[_Layer], rows: slice) -> Samples:
    """Return the samples of some rows, the last of them alpha."""
    masks = [layer.mask(rows) for layer in layers]
    samples = [layer.samples(rows, mask) for layer, mask in zip(layers, masks, strict=True)]
    alpha = np.logical_and.reduce(masks).astype(np.uint8) * np.uint8(255)
    return np.stack([*samples, alpha], axis=-1)


def stretch_range(values: Pixels, band: BandSpec) -> Interval | None:
    """Return two percentiles of the valid pixels, those of ``numpy.percentile``; None where none is valid."""
    strips = [values[rows] for rows in _strips(*values.shape)]
    counts = [int(np.count_nonzero(visible(strip, band))) for strip in strips]
    known = np.empty(sum(counts), dtype=values.dtype)
    if not known.size:
        return None
    place = 0
    for strip, count in zip(strips, counts, strict=True):
        known[place : place + count] = strip[visible(strip, band)]
        place += count
    places = [(known.size - 1) * (percent / 100) for percent in STRETCH]
    below = [math.floor(place) for place in places]
    above = [min(index + 1, known.size - 1) for index in below]
    known.partition(sorted({*below, *above}))  # in place, and in the pixels' own type
    low, high = (
        _between(float(known[first]), float(known[second]), place - first)
        for first, second, place in zip(below, above, places, strict=True)
    )
    return low, high


def _between(first: float, second: float, part: float) -> float:
    """Interpolate as NumPy does: from the nearer end."""
    step = second - first
    return first + step * part if part < 0.5 else second - step * (1 - part)  # noqa: PLR2004


def _saved(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=_LEVEL)
    return file.getvalue()


def png_bytes(samples: Samples) -> bytes:
    """Write a PNG of eight bits a sample.

    Args:
        samples: (rows, columns, 2) grey and alpha, or (rows, columns, 4) red, green, blue and alpha.
    """
    return _saved(Image.fromarray(samples))


def indexed_png_bytes(numbers: Samples, colours: Samples) -> bytes:
    """Write a PNG with a palette.

    Args:
        numbers: (rows, columns): which colour.
        colours: (256, 4) red, green, blue and alpha.
    """
    file = io.BytesIO()
    image = Image.fromarray(numbers)
    image.putpalette(colours[:, :3].tobytes())
    opacity = colours[:, 3]
    holes = {} if (opacity == 255).all() else {"transparency": opacity.tobytes()}  # noqa: PLR2004
    image.save(file, "PNG", compress_level=_LEVEL, **holes)
    return file.getvalue()
