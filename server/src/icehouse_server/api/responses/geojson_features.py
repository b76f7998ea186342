"""Inventories as GeoJSON, in parts: the text of a large one is never held as a whole."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.crs import CRS

from icehouse_server.api.parameters.crs import CRS84_URI, crs_uri
from icehouse_server.api.responses.outlines import outlines
from icehouse_server.service import ChunkState, InventorySnapshot, View

_AT_ONCE = 128
"""Squares whose features are made at once: some 60 kB of text."""

_PART = 1 << 16
"""Characters from which on a part is sent."""

_STATES = (ChunkState.FAILED, ChunkState.IN_FLIGHT, ChunkState.PRESENT, ChunkState.VOID)
"""What counts in a square, the first that there is."""

type _Places = NDArray[np.int64]
"""Squares (n, 2): row and column, counted in squares."""


def said(state: ChunkState) -> str:
    """Return the name of a state for people and programs."""
    return state.name.lower().replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked for, and in which coordinates the answer shall be."""

    view: View
    crs: CRS

    @property
    def crs_uri(self) -> str:
        """The CRS as OGC writes it."""
        return CRS84_URI if self.crs == CRS("EPSG:4326") else crs_uri(self.crs)

    def collection(self, snapshot: InventorySnapshot) -> Iterator[str]:
        """Return a snapshot as a GeoJSON FeatureCollection, in parts.

        Each is made when it is asked for. Blocking.
        """
        more = {} if self.crs_uri == CRS84_URI else {"coordRefSys": self.crs_uri}
        document = {
            "type": "FeatureCollection",
            **more,
            "collection": self.view.collection.id,
            "level": self.view.level,
            "cell": self.view.cell,
            "unsure": snapshot.unsure,
        }
        return _packed(self._collection(_json(document), snapshot))

    def change(self, snapshot: InventorySnapshot, places: _Places) -> Iterator[str]:
        """Return squares that have changed as JSON: features, and ids of those that are gone.

        In parts, as a collection. Blocking.
        """
        return _packed(self._change(snapshot, places))

    def _collection(self, document: str, snapshot: InventorySnapshot) -> Iterator[str]:
        yield f'{document[:-1]},"features":['
        yield from _listed(map(partial(self._features, snapshot), _batches(_there(self.view, snapshot))))
        yield "]}"

    def _change(self, snapshot: InventorySnapshot, places: _Places) -> Iterator[str]:
        yield '{"features":['
        yield from _listed(map(partial(self._features, snapshot), _batches(places)))
        yield '],"gone":['
        yield from _listed(map(partial(self._gone, snapshot), _batches(places)))
        yield "]}"

    def _features(self, snapshot: InventorySnapshot, places: _Places) -> list[dict[str, Any]]:
        """Return the features of those squares that hold something."""
        view = self.view
        side = (view.collection.grid.chunk * view.cell) << view.level
        counted = _counted(view, snapshot, places)
        there = [(place, counts) for place, counts in counted if any(counts[ChunkState.VOID :])]
        shapes = outlines(view.collection.grid, side, [place for place, _ in there], self.crs)
        return [
            {
                "type": "Feature",
                "id": self._id(place),
                "geometry": shape,
                "properties": self._properties(snapshot, place, counts),
            }
            for (place, counts), shape in zip(there, shapes, strict=True)
        ]

    def _gone(self, snapshot: InventorySnapshot, places: _Places) -> list[str]:
        """Return the ids of those squares that hold nothing."""
        counted = _counted(self.view, snapshot, places)
        return [self._id(place) for place, counts in counted if not any(counts[ChunkState.VOID :])]

    def _id(self, place: tuple[int, int]) -> str:
        return f"{self.view.level}/{place[0] * self.view.cell}/{place[1] * self.view.cell}"

    def _properties(
        self, snapshot: InventorySnapshot, place: tuple[int, int], counts: list[int]
    ) -> dict[str, Any]:
        view = self.view
        row, col = place[0] * view.cell, place[1] * view.cell
        found: dict[str, Any] = {
            "row": row,
            "col": col,
            "level": view.level,
            "state": next(said(state) for state in _STATES if counts[state]),
            "chunks": sum(counts),
        }
        if view.cell > 1:
            found.update((state.name.lower(), counts[state]) for state in _STATES)
            return found
        layers = list(view.band_steps)
        if len(layers) == 1:
            band, step = layers[0]
            found["chunk"] = view.collection.key(band, row, col, step, view.level).path
        failed = snapshot.failed.get(place)
        if failed is not None and counts[ChunkState.FAILED]:
            found.update(chunk=failed.chunk, kind=failed.kind, detail=failed.detail)
        return found


def _there(view: View, snapshot: InventorySnapshot) -> _Places:
    """Return the squares that hold anything but absent chunks."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for area, counts in zip(view.areas, snapshot.counts, strict=True):
        squares = view.squares(area)
        there = np.argwhere(counts[..., ChunkState.VOID :].any(axis=2))
        found.append(np.add(there, (squares.row, squares.col)))
    return np.concatenate(found)


def _counted(
    view: View, snapshot: InventorySnapshot, places: _Places
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Return squares and their counts."""
    for row, col in places.tolist():
        for area, counts in zip(view.areas, snapshot.counts, strict=True):
            squares = view.squares(area)
            if squares.row <= row < squares.stop_row and squares.col <= col < squares.stop_col:
                yield (row, col), counts[row - squares.row, col - squares.col].tolist()


def _batches(places: _Places) -> Iterator[_Places]:
    """Cut squares into few at a time."""
    return (places[first : first + _AT_ONCE] for first in range(0, len(places), _AT_ONCE))


def _listed(lists: Iterable[list[Any]]) -> Iterator[str]:
    """Return lists as what stands between the brackets of one."""
    comma = ""
    for some in filter(None, lists):
        yield f"{comma}{_json(some)[1:-1]}"
        comma = ","


def _packed(texts: Iterable[str]) -> Iterator[str]:
    """Join texts to parts that are worth sending."""
    held: list[str] = []
    for text in texts:
        held.append(text)
        if sum(map(len, held)) >= _PART:
            yield "".join(held)
            held.clear()
    if held:
        yield "".join(held)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
