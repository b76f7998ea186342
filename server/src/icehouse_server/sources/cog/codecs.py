"""Decompression that stops where a block ends: a small block must not inflate to gigabytes.

async-tiff 0.7 inflates a block whole before it looks at its length. For the codecs that shrink a thousandfold
and more, its decoders are replaced by ones that are given the size. LZW stays async-tiff's own: it shrinks at
most 1,300-fold, and ``checks`` bounds the compressed bytes.
"""

from collections.abc import Buffer

from async_tiff import DecoderRegistry
from async_tiff.enums import Compression
from numcodecs.zstd import decompress
from zlib_ng import zlib_ng

_MAGIC = b"\x28\xb5\x2f\xfd"


class BlockSizeError(ValueError):
    """A block does not hold the bytes of its pixels."""


def bounded(size: int) -> DecoderRegistry:
    """Return decoders for blocks of a given size in bytes, decompressed."""

    def deflate(buffer: Buffer) -> bytes:
        found: bytes = zlib_ng.decompressobj().decompress(buffer, size + 1)
        if len(found) != size:
            raise BlockSizeError(f"a block does not hold the {size} bytes of its pixels")
        return found

    def zstd(buffer: Buffer) -> Buffer:
        if _content_size(bytes(memoryview(buffer)[:18])) not in {None, size}:
            raise BlockSizeError(f"a block does not hold the {size} bytes of its pixels")
        found: Buffer = decompress(buffer, bytearray(size))
        return found

    return DecoderRegistry(
        {Compression.Deflate: deflate, Compression.OldDeflate: deflate, Compression.ZSTD: zstd}
    )


def _content_size(head: bytes) -> int | None:
    """Return the size that the first frame claims (RFC 8878, 3.1.1.1), or None where it claims none.

    It must be known, as what falls short of the buffer is not reported.
    """
    if len(head) < 6 or not head.startswith(_MAGIC):  # noqa: PLR2004 - magic, descriptor, one more
        return None
    descriptor = head[4]
    single, width = descriptor >> 5 & 1, (0, 2, 4, 8)[descriptor >> 6]
    width = width or single
    if width == 0:
        return None
    start = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(head[start : start + width], "little")
    return size + 256 if width == 2 else size  # noqa: PLR2004 - as the RFC has it
