"""From chunks as they are stored to windows of pixels."""

from collections.abc import Mapping, Sequence

import numpy as np
import structlog

from icehouse_server.core.collection import BandSpec, CollectionSpec
from icehouse_server.core.grid import ChunkKey, Window
from icehouse_server.core.ports import Pixels
from icehouse_server.store.layout.codec import DamagedError, decode, void_chunk
from icehouse_server.store.translate_errors import first_line

log = structlog.get_logger(__name__)


def is_void(band: BandSpec, values: Pixels) -> bool:
    """Return whether a chunk holds nothing but nodata; never where the band has none. Blocking."""
    fill = band.fill
    if band.nodata is None or not (values[0, 0] == fill or fill != fill):  # noqa: PLR0124
        return False
    everywhere = np.broadcast_to(fill, values.shape)
    return np.array_equal(values, everywhere, equal_nan=values.dtype.kind == "f")


def decode_chunks(
    chunks: Sequence[tuple[ChunkKey, memoryview]], band: BandSpec, chunk: int
) -> list[tuple[ChunkKey, tuple[Pixels, bool]]]:
    """Decode chunks, and say which are void: those are given as ones that take no memory. Blocking.

    Args:
        chunks: as they are stored, all of the band.
        band: which band.
        chunk: pixels along a side of a chunk.

    Returns:
        Pixels (rows, columns) and whether they are void, by chunk. Those that do not decode are logged and
        left out.
    """
    found: list[tuple[ChunkKey, tuple[Pixels, bool]]] = []
    for key, data in chunks:
        try:
            values = decode(data, band, chunk)
        except DamagedError as error:
            log.warning("a stored chunk does not decode", chunk=key.path, error=first_line(error))
            continue
        void = is_void(band, values)
        found.append((key, (void_chunk(band, chunk) if void else values, void)))
    return found


def assemble(spec: CollectionSpec, window: Window, chunks: Mapping[ChunkKey, Pixels], out: Pixels) -> None:
    """Copy chunks to their places in a window of pixels (rows, columns). Blocking."""
    size = spec.grid.chunk
    for key, values in chunks.items():
        area = Window(row=key.row * size, col=key.col * size, height=size, width=size)
        common = area.intersection(window)
        if common is not None:
            out[common.slices(window)] = values[common.slices(area)]
