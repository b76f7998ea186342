"""How a chunk's pixels become bytes in the repository, and back.

The chain is Zarr v3's ``bytes`` (little endian), ``blosc`` (zstd, level 3, bit shuffle) and ``crc32c``. Any
Zarr reader decodes it. It is done here, chunk by chunk and in the store's own threads, because zarr's
pipeline hops threads for every codec of every chunk; ``tests/property/test_codec.py`` holds both against
each other. Figures behind the choice: ``docs/design/0001-chunks-and-codec.md``.
"""

from typing import Final, cast

import google_crc32c
import numpy as np
from numcodecs import blosc
from zarr.codecs import BloscCodec, Crc32cCodec

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.ports import Pixels

_CNAME: Final = "zstd"
_LEVEL = 3
_BITSHUFFLE = 2
_CRC_BYTES = 4
_BLOSC_HEADER = 16


class DamagedError(Exception):
    """Stored bytes that are not what was written."""


def zarr_compressors(dtype: np.dtype[np.generic]) -> tuple[BloscCodec, Crc32cCodec]:
    """Return the same chain as Zarr's metadata names it."""
    return (
        BloscCodec(typesize=dtype.itemsize, cname=_CNAME, clevel=_LEVEL, shuffle="bitshuffle"),
        Crc32cCodec(),
    )


def encode(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> bytes:
    """Encode a chunk.

    Args:
        values: (chunk, chunk), or a chunk of a coordinate; any byte order.

    Returns:
        Blosc frame with its CRC-32C behind it. About 3 ms for 512 x 512 float32; the GIL is released.
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    frame = bytes(blosc.compress(little, _CNAME.encode(), _LEVEL, _BITSHUFFLE))
    crc: int = google_crc32c.value(frame)
    return frame + crc.to_bytes(_CRC_BYTES, "little")


def intact(data: bytes | memoryview) -> bool:
    """Return whether an encoded chunk is what was written, by its checksum; takes 0.1 ms for a megabyte."""
    view = memoryview(data)
    crc = int.from_bytes(view[-_CRC_BYTES:], "little")
    return len(view) >= _BLOSC_HEADER + _CRC_BYTES and google_crc32c.value(bytes(view[:-_CRC_BYTES])) == crc


def frame_of(data: memoryview) -> memoryview:
    """Return an encoded chunk without its checksum: what the chain without ``crc32c`` would have written."""
    return data[:-_CRC_BYTES]


def decode(data: bytes | memoryview, band: BandSpec, chunk: int) -> Pixels:
    """Decode a chunk.

    Args:
        data: what ``encode`` returned.
        band: whose chunk it is.
        chunk: side in pixels.

    Returns:
        (chunk, chunk) of the band's dtype, read-only.

    Raises:
        DamagedError: the checksum is wrong, or the frame does not hold a chunk of this size.
    """
    view = memoryview(data)
    frame, crc = bytes(view[:-_CRC_BYTES]), bytes(view[-_CRC_BYTES:])
    if len(frame) < _BLOSC_HEADER or google_crc32c.value(frame) != int.from_bytes(crc, "little"):
        raise DamagedError("the checksum does not fit the bytes")
    # Of the Blosc 1 header: what the frame decodes to, and its own length.
    nbytes, cbytes = int.from_bytes(frame[4:8], "little"), int.from_bytes(frame[12:16], "little")
    if nbytes != chunk * chunk * band.dtype.itemsize or cbytes != len(frame):
        raise DamagedError(f"it holds {nbytes} bytes, not a chunk of {chunk} x {chunk} {band.dtype.name}")
    values = np.empty((chunk, chunk), dtype=band.dtype.newbyteorder("<"))
    try:
        blosc.decompress(frame, values)
    except RuntimeError as error:  # the checksum is right, so another program wrote it
        raise DamagedError(f"it does not decompress: {error}") from None
    native = values.astype(band.dtype, copy=False)
    native.flags.writeable = False
    return cast("Pixels", native)


def void_chunk(band: BandSpec, chunk: int) -> Pixels:
    """Return a chunk of nothing but the band's fill, that takes no memory: one pixel, repeated."""
    return cast("Pixels", np.broadcast_to(np.asarray(band.fill, dtype=band.dtype), (chunk, chunk)))
