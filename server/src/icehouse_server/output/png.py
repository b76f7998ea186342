"""A quick look: bands stretched to eight bits as PNG, transparent where invalid."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.ports import Mask, Pixels
from icehouse_server.output.validity import visible

type Samples = NDArray[np.uint8]

STRETCH = (2, 98)
"""Percentiles of the valid pixels that become black and white."""

_RGB = 3
_GREY_ALPHA, _RGB_ALPHA = 4, 6
"""PNG's colour types (ISO/IEC 15948, section 11.2.2)."""

_FILTER_UP = 2
_LEVEL = 1
"""Deflate's level: a quick look is looked at once, and level 6 takes five times as long for a fifth less."""


def encode_png(coverage: Coverage) -> list[bytes | memoryview]:
    """Encode a coverage as PNG with alpha.

    One band, or two, give a picture in grey of the first; three or more give one of the first three as red,
    green and blue. Each band is stretched for itself. A pixel is transparent where any shown band is invalid.

    Returns:
        One part: the file.
    """
    bands = coverage.region.bands
    shown = bands[:_RGB] if len(bands) >= _RGB else bands[:1]
    masks = [visible(coverage.bands[band.name], band) for band in shown]
    samples = [stretch(coverage.bands[band.name], mask) for band, mask in zip(shown, masks, strict=True)]
    alpha = np.logical_and.reduce(masks).astype(np.uint8) * np.uint8(255)
    return [png_bytes(np.stack([*samples, alpha], axis=-1))]


def stretch(values: Pixels, mask: Mask) -> Samples:
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
    """Write a PNG (ISO/IEC 15948) of eight bits a sample.

    Args:
        samples: (rows, columns, 2) grey and alpha, or (rows, columns, 4) red, green, blue and alpha.
    """
    rows, cols, channels = samples.shape
    colour = _RGB_ALPHA if channels == _RGB + 1 else _GREY_ALPHA
    flat = samples.reshape(rows, cols * channels)
    lines = np.empty((rows, 1 + cols * channels), dtype=np.uint8)
    lines[:, 0] = _FILTER_UP
    lines[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=lines[1:, 1:])
    head = struct.pack(">2I5B", cols, rows, 8, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(lines, level=_LEVEL)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
