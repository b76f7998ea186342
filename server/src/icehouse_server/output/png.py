"""A quick look: bands stretched to eight bits as PNG, transparent where invalid."""

import io
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.errors import BadParameterError
from icehouse_server.core.ports import Pixels, Validity
from icehouse_server.raster.validity import visible

type Samples = NDArray[np.uint8]

STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""

_RGB = 3
_LEVEL = 1
"""Deflate's level: a quick look is looked at once, and level 6 takes five times as long for a fifth less."""


def encode_png(coverage: Coverage) -> list[bytes | memoryview]:
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
    pixels = [cast("Pixels", coverage.bands[band.name].reshape(coverage.region.shape)) for band in shown]
    masks = [visible(values, band) for values, band in zip(pixels, shown, strict=True)]
    samples = [stretch(values, mask) for values, mask in zip(pixels, masks, strict=True)]
    alpha = np.logical_and.reduce(masks).astype(np.uint8) * np.uint8(255)
    return [png_bytes(np.stack([*samples, alpha], axis=-1))]


def stretch(values: Pixels, mask: Validity) -> Samples:
    """Return pixels as 0 to 255, linear between two percentiles of the valid ones; 0 where invalid."""
    known = values[mask].astype(np.float64)
    if not known.size:
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = np.percentile(known, STRETCH)
    if high <= low:
        return np.where(mask, np.uint8(127), np.uint8(0))
    scaled = np.zeros(values.shape, dtype=np.uint8)
    scaled[mask] = np.rint(np.clip((known - low) / (high - low), 0, 1) * 255)
    return scaled


def png_bytes(samples: Samples) -> bytes:
    """Write a PNG of eight bits a sample.

    Args:
        samples: (rows, columns, 2) grey and alpha, or (rows, columns, 4) red, green, blue and alpha.
    """
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG", compress_level=_LEVEL)
    return file.getvalue()


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
