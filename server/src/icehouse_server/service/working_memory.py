"""How much memory an answer needs: its pixels, what they are read from, and what encodes them."""

from collections.abc import Callable

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.geometry.footprint import FootprintPiece
from icehouse_server.core.plan import Plan, Region
from icehouse_server.store import BATCH_BYTES

READ_BYTES = 128 * 1024**2
"""What reading may take at a time for one answer, in addition to its pixels. What needs more, alone."""

_CLIP_BYTES = 3
"""Bytes a pixel of a polygon's mask while it is drawn."""

_WARP_BYTES = 2
"""Bytes a pixel, of source and target, of the masks with which GDAL warps."""


def working_bytes(plan: Plan, encoding: Callable[[Region], int], *, clipped: bool) -> int:
    """Return the memory that an answer takes at most.

    Args:
        plan: its plan.
        encoding: returns what is needed in addition to the pixels for what is made of them.
        clipped: it is cut to a polygon.
    """
    rows, cols = plan.region.shape
    mask = rows * cols * _CLIP_BYTES if clipped else 0
    return plan.output_bytes + max(mask + _reading(plan), encoding(plan.region))


def piece_bytes(plan: Plan, piece: FootprintPiece, band: BandSpec) -> int:
    """Return what reading a piece of one band takes in addition to the pixels of the answer."""
    grid, itemsize = plan.region.grid, band.dtype.itemsize
    chunks = min(BATCH_BYTES, grid.chunks_under(piece.source).pixels * grid.chunk**2 * itemsize)
    if plan.footprint.aligned:
        whole = (piece.target.height, piece.target.width) == plan.region.shape
        return chunks if whole else chunks + piece.source.pixels * itemsize
    pixels = piece.source.pixels + piece.target.pixels
    return max(chunks + piece.source.pixels * itemsize, pixels * (itemsize + _WARP_BYTES))


def _reading(plan: Plan) -> int:
    """Return what reading takes: all bands and steps at once as far as ``READ_BYTES`` goes."""
    steps = 1 if plan.region.times is None else len(plan.region.times)
    most = 0
    for piece in plan.footprint.pieces:
        each = [piece_bytes(plan, piece, band) for band in plan.region.bands]
        most = max(most, min(sum(each) * steps, max(READ_BYTES, *each)))
    return most
