"""Small blocks that inflate to gigabytes, and what reading them costs.

`python -m support.bombs`: a process of its own, which measures its own peak of memory.
"""

from __future__ import annotations

import asyncio
import json
import resource
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

from icehouse_server.core.errors import SourceError
from icehouse_server.sources import create_source
from support import scene as made
from support.source_rig import request_for

if TYPE_CHECKING:
    from icehouse_server.core.ports import Source

_OFFSETS: Final = (273, 324)
_COUNTS: Final = (279, 325)
"""Tags of strips and tiles."""
_BYTES: Final = 60_000
"""Compressed bytes of a bomb: what ``checks`` lets pass for a block of 64 x 64 float32."""
_STRIPS: Final = {"tiled": False, "blockxsize": made.SIDE, "blockysize": 64}
CASES: Final[dict[str, dict[str, Any]]] = {
    "deflate": {"compress": "deflate"},
    "zstd": {"compress": "zstd"},
    "deflate by GDAL": {"compress": "deflate", **_STRIPS},
    "zstd by GDAL": {"compress": "zstd", **_STRIPS},
}


def deflated() -> bytes:
    """A thousandfold: 60 MB."""
    packer = zlib.compressobj(9)
    return packer.compress(bytes(_BYTES * 1000)) + packer.flush()


def zstandard() -> bytes:
    """Thirty thousandfold: 2 GB in blocks that repeat one byte, in a frame that claims no size (RFC 8878)."""
    size, count = 128 * 1024, _BYTES // 4
    blocks = (struct.pack("<I", size << 3 | 2 | (number == count - 1))[:3] + b"\0" for number in range(count))
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)


def with_blocks(tiff: bytes, block: bytes) -> bytes:
    """Let the first block of a little-endian TIFF be these bytes."""
    out = bytearray(tiff + block)
    directory = struct.unpack_from("<I", tiff, 4)[0]
    for number in range(struct.unpack_from("<H", tiff, directory)[0]):
        entry = directory + 2 + 12 * number
        tag, kind, count, value = struct.unpack_from("<HHII", tiff, entry)
        if tag in {*_OFFSETS, *_COUNTS}:
            form = {3: "<H", 4: "<I"}[kind]
            place = value if count * struct.calcsize(form) > 4 else entry + 8
            struct.pack_into(form, out, place, len(tiff) if tag in _OFFSETS else len(block))
    return bytes(out)


def _peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def _read(source: Source, request: Any) -> str:
    try:
        await source.read(request)
    except SourceError as error:
        return f"{error.kind} {error.item}"
    return "read"


async def measure() -> dict[str, tuple[str, int]]:
    """How each bomb ends, and by how many bytes the peak of memory grew."""
    found: dict[str, tuple[str, int]] = {}
    with made.Scene.start() as scene:
        for name, how in CASES.items():
            tiff = made.geotiff(made.pixels_of("1_1"), made.transform_of("1_1"), **how)
            bomb = with_blocks(tiff, zstandard() if "zstd" in name else deflated())
            source, request = create_source(scene.spec, scene.context), request_for(scene.spec, made.LEFT)
            scene.publish("1_1", file=tiff)
            await _read(source, request)
            await source.close()
            source = create_source(scene.spec, scene.context)
            scene.publish("1_1", file=bomb)
            before = _peak()
            found[name] = await _read(source, request), _peak() - before
            await source.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))  # noqa: T201 - the outcome
