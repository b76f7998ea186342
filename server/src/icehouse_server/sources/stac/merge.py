"""Overlapping items become one block: in a fixed order, the first valid pixel wins.

The outcome at a pixel depends on the items that cover it and their order, not on the window or on what was
read: a pixel is settled only when every earlier item that covers it has been read there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icehouse_server.core.collection import BandSpec
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import BandBlock, Mask
from icehouse_server.sources.cog.item_pixels import ItemPixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What the pixels read so far say, and what must be read before it is final."""

    block: BandBlock
    needed: Mapping[int, Window]
    """Position of an item to the window to read of it; empty when the block is final."""


def merge(
    window: Window, band: BandSpec, extents: Sequence[Window], pixels: Mapping[int, Sequence[ItemPixels]]
) -> Merged:
    """Merge what was read, first valid pixel wins.

    Without pixels, ``needed`` is the first pass: of each item the bounding box of the part of the window that
    no earlier item covers. With them, it is the bounding boxes of the holes that a later item may fill.

    Args:
        window: pixels of the grid to fill.
        band: dtype and fill of the outcome.
        extents: what each item covers, in the order of precedence.
        pixels: position of an item to what was read of it.
    """
    shape = (window.height, window.width)
    values = np.full(shape, band.fill, dtype=band.dtype)
    valid = np.zeros(shape, dtype=np.bool_)
    pending = np.ones(shape, dtype=np.bool_)
    needed: dict[int, Window] = {}
    for position, extent in enumerate(extents):
        area = extent.intersection(window)
        if area is None:
            continue
        unread = pending[area.slices(window)].copy()
        for read in pixels.get(position, ()):
            common = read.window.intersection(area)
            if common is not None:
                inside, source = common.slices(window), common.slices(read.window)
                taken = pending[inside] & read.valid[source]
                np.copyto(values[inside], read.values[source], where=taken)
                valid[inside] |= taken
                pending[inside] &= ~taken
                unread[common.slices(area)] = False
        missing = _bounding_box(unread, area)
        if missing is not None:
            needed[position] = missing
            pending[area.slices(window)] &= ~unread
    return Merged(block=BandBlock(values=values, valid=valid), needed=needed)


def _bounding_box(mask: Mask, origin: Window) -> Window | None:
    """Return the smallest window with all True pixels of a mask that starts at ``origin``, or None."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    cols = np.flatnonzero(mask.any(axis=0))
    return Window.from_bounds(
        origin.row + int(rows[0]),
        origin.col + int(cols[0]),
        origin.row + int(rows[-1]) + 1,
        origin.col + int(cols[-1]) + 1,
    )
