"""How the numbers of a GeoTIFF are stored, and as which dtype they are read."""

import numpy as np
from async_tiff import ImageFileDirectory
from async_tiff.enums import PhotometricInterpretation, SampleFormat

from icehouse_server.core.collection import DTYPES

_KINDS = {SampleFormat.Uint: "uint", SampleFormat.Int: "int", SampleFormat.Float: "float"}
_BYTE = 8
_HALF = 16
"""Bits of the smallest float."""


def pixel_dtype(ifd: ImageFileDirectory) -> np.dtype[np.generic] | None:
    """Return the dtype that GDAL gives the pixels of an image, or None where no band can have it.

    Samples of 1, 4, 12 or 15 bits become the smallest type of whole bytes that holds them.
    """
    kinds, sizes = {_KINDS.get(form) for form in ifd.sample_format} or {"uint"}, set(ifd.bits_per_sample)
    if len(kinds) != 1 or len(sizes) != 1:
        return None
    (kind,), (bits,) = kinds, sizes
    whole = max(_HALF if kind == "float" else _BYTE, 1 << (bits - 1).bit_length()) if bits > 0 else 0
    return np.dtype(f"{kind}{whole}") if f"{kind}{whole}" in DTYPES else None


def sample_type(ifd: ImageFileDirectory) -> str:
    """Return an image's dtype by its name, or what it stores where it has none, such as complex numbers."""
    dtype = pixel_dtype(ifd)
    if dtype is not None:
        return dtype.name
    kind = _KINDS.get(ifd.sample_format[0], "complex") if ifd.sample_format else "uint"
    return f"{kind} of {', '.join(sorted({str(bits) for bits in ifd.bits_per_sample}))} bits"


def is_decoded(ifd: ImageFileDirectory) -> bool:
    """Return whether async-tiff decodes an image's samples: those of whole bytes, and masks of a bit."""
    if ifd.photometric_interpretation == PhotometricInterpretation.TransparencyMask:
        return True
    dtype = pixel_dtype(ifd)
    return dtype is not None and dtype != np.float16 and set(ifd.bits_per_sample) == {dtype.itemsize * _BYTE}
