"""Neighbouring absent chunks, joined into blocks that a source reads at once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import ChunkKey, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkBlock:
    """A full rectangle of chunk positions, with the same bands in each."""

    bands: tuple[str, ...]
    time: int | None = None
    """Number of the time step, where the collection has a time axis."""
    level: int = 0
    chunks: Window
    """Rows and columns counted in chunks."""

    @property
    def positions(self) -> Iterator[tuple[int, int]]:
        """The (row, col) of its chunks, row by row."""
        chunks = self.chunks
        return (
            (row, col)
            for row in range(chunks.row, chunks.stop_row)
            for col in range(chunks.col, chunks.stop_col)
        )

    def keys(self, spec: CollectionSpec, band: str) -> Iterator[ChunkKey]:
        """The chunks of a band, row by row."""
        return (spec.key(band, row, col, self.time, self.level) for row, col in self.positions)


def join(
    keys: Iterable[ChunkKey], max_side: int, most: Callable[[tuple[str, ...]], int] | None = None
) -> tuple[ChunkBlock, ...]:
    """Join keys of one collection into rectangles of at most ``max_side`` chunks each way.

    Greedy from the top left: as wide as it goes, then as high. Every key is in exactly one block, and a
    block holds nothing but keys that were given, all of one level and time step. Neither order nor
    repetition of the keys matters.

    Args:
        keys: what to join.
        max_side: chunks each way, at most.
        most: how many positions a block of these bands may hold, where that is bounded.
    """
    bands_at: dict[tuple[int, int | None, int, int], set[str]] = {}
    for key in keys:
        bands_at.setdefault((key.level, key.time, key.row, key.col), set()).add(key.band)
    places: dict[tuple[tuple[str, ...], int, int | None], set[tuple[int, int]]] = {}
    for (level, time, row, col), bands in bands_at.items():
        places.setdefault((tuple(sorted(bands)), level, time), set()).add((row, col))
    return tuple(
        ChunkBlock(bands=bands, level=level, time=time, chunks=chunks)
        for (bands, level, time), positions in places.items()
        for chunks in _rectangles(positions, max_side, max_side**2 if most is None else most(bands))
    )


def _rectangles(positions: set[tuple[int, int]], max_side: int, most: int) -> Iterator[Window]:
    left = set(positions)
    for row, col in sorted(positions):
        if (row, col) not in left:
            continue
        width = 1
        while width < min(max_side, most) and (row, col + width) in left:
            width += 1
        height = 1
        while (
            height < max_side
            and (height + 1) * width <= most
            and all((row + height, c) in left for c in range(col, col + width))
        ):
            height += 1
        left.difference_update((r, c) for r in range(row, row + height) for c in range(col, col + width))
        yield Window(row=row, col=col, height=height, width=width)
