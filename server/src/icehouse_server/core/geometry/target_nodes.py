"""Places of a target geobox, and where they lie on a grid: what a footprint is computed from."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.transformers import project_points
from icehouse_server.core.grid import Grid

NODE_STEP = 32
"""Most pixels of the target between two points whose place on the grid is computed exactly."""

CELL_NODES = 8
"""Node intervals along the side of a cell; chunks are collected cell by cell."""

_SMOOTH = 0.2
"""Turns between two nodes from which a cell may hold a pole: of the four around one, a step is a quarter."""


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Places of the target, in its pixels, and where they lie on the grid, in the grid's pixels."""

    rows: NDArray[np.float64]
    cols: NDArray[np.float64]
    grid_rows: NDArray[np.float64]
    """(rows, columns); not finite where the place is undefined."""
    grid_cols: NDArray[np.float64]

    def part(self, row: int, col: int) -> "Nodes":
        """Return the nodes of the cell that begins at a node."""
        down, along = slice(row, row + CELL_NODES + 1), slice(col, col + CELL_NODES + 1)
        return Nodes(
            rows=self.rows[down],
            cols=self.cols[along],
            grid_rows=self.grid_rows[down, along],
            grid_cols=self.grid_cols[down, along],
        )


def nodes_of(grid: Grid, target: GeoBox) -> Nodes:
    """Return the nodes of a target geobox, of any CRS."""
    rows, cols = _along(int(target.shape[0])), _along(int(target.shape[1]))
    node_cols, node_rows = np.meshgrid(cols, rows)
    x, y = project_points(*apply_affine(target.affine, node_cols, node_rows), target.crs, grid.crs)
    with np.errstate(invalid="ignore"):  # infinity times zero: a place that the CRS does not know
        grid_cols, grid_rows = apply_affine(~grid.geobox.affine, x, y)
    return Nodes(rows=rows, cols=cols, grid_rows=grid_rows, grid_cols=grid_cols)


def cell_side() -> int:
    """Return the side of a cell in pixels of the target."""
    return NODE_STEP * CELL_NODES


def _along(size: int) -> NDArray[np.float64]:
    """Places, in pixels, at which the transform is computed: as many in every cell, also in a short last one.

    A target of few pixels can be a large part of the earth, where the corners of a cell say nothing of a
    pole or an antimeridian between them.
    """
    edges = [*range(0, size, cell_side()), size]
    cells = [np.linspace(start, stop, CELL_NODES + 1)[:-1] for start, stop in pairwise(edges)]
    return np.append(np.concatenate(cells), float(size))


def scale_of(nodes: Nodes, turn: float | None) -> float:
    """Return how many grid pixels a target pixel spans at most (GDAL widens its kernels by this)."""
    by_rows, by_cols = _steps(nodes, nodes.grid_rows, None), _steps(nodes, nodes.grid_cols, turn)
    with np.errstate(invalid="ignore"):
        steps = np.concatenate([np.hypot(*axis).ravel() for axis in zip(by_rows, by_cols, strict=True)])
    steps = steps[np.isfinite(steps)]
    return float(steps.max()) if steps.size else 1.0


def extents_of(nodes: Nodes, turn: float | None) -> tuple[float, float]:
    """Return how many grid pixels lie under the target by its own pixels: along rows, along columns."""
    finite = np.isfinite(nodes.grid_rows) & np.isfinite(nodes.grid_cols)
    if not finite.any():
        return 1.0, 1.0
    known = nodes.grid_cols[finite]
    width = float(np.ptp(known))
    if turn is not None and width > turn / 2:  # the jump between 180 and -180 is not a distance
        width = min(width, float(np.ptp(_nearest(known, known[known.size // 2], turn))))
    return float(np.ptp(nodes.grid_rows[finite])) / nodes.rows[-1], width / nodes.cols[-1]


def span_of(nodes: Nodes, places: NDArray[np.float64], turn: float | None) -> float:
    """Return how many grid pixels a target pixel of a cell spans at most along an axis of the grid."""
    span = 0.0
    for steps in _steps(nodes, places, turn):
        span += float(np.abs(steps[np.isfinite(steps)]).max(initial=0.0))
    return span


def _steps(nodes: Nodes, places: NDArray[np.float64], turn: float | None) -> tuple[NDArray[np.float64], ...]:
    """Return grid pixels by target pixel between neighbouring nodes, down and along; the short way around."""
    with np.errstate(invalid="ignore"):
        down, along = np.diff(places, axis=0), np.diff(places, axis=1)
        if turn is not None:
            down, along = _shortest(down, turn), _shortest(along, turn)
    return down / np.diff(nodes.rows)[:, None], along / np.diff(nodes.cols)[None, :]


def _shortest(steps: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Return steps of longitude, in columns, without the turns of the earth in them."""
    return np.where(np.abs(steps) > turn / 2, steps - turn * np.round(steps / turn), steps)


def _nearest(cols: NDArray[np.float64], around: float, turn: float) -> NDArray[np.float64]:
    """Return columns moved by whole turns, each to where it is nearest to ``around``."""
    moved: NDArray[np.float64] = cols - turn * np.round((cols - around) / turn)
    return moved


type Bounds = tuple[float, float]
"""First and last place along an axis of the grid, in pixels."""


def bounds_of(places: NDArray[np.float64]) -> Bounds | None:
    """Return between which places one cell of nodes lies along an axis of the grid; None where undefined.

    Between nodes the place is bounded by the second differences. A smooth curve strays from its chord by an
    eighth of them; they are taken whole, because around a pole, or where longitudes jump, nothing is smooth.
    """
    finite = np.isfinite(places)
    if not finite.any():
        return None
    stray, known = _stray(places), places[finite]
    if not finite.all():  # beyond the CRS's validity: let what is known reach over the gap
        stray += float(np.ptp(known)) + NODE_STEP
    return float(known.min()) - stray, float(known.max()) + stray


def _stray(places: NDArray[np.float64]) -> float:
    stray = 0.0
    for axis in (0, 1):
        with np.errstate(invalid="ignore"):
            second = np.abs(np.diff(places, n=2, axis=axis))
        stray += float(second[np.isfinite(second)].max(initial=0.0))
    return stray


def both_defined(nodes: Nodes) -> Nodes:
    """Return the nodes with both places undefined where one is."""
    finite = np.isfinite(nodes.grid_rows) & np.isfinite(nodes.grid_cols)
    return replace(
        nodes,
        grid_rows=np.where(finite, nodes.grid_rows, np.nan),
        grid_cols=np.where(finite, nodes.grid_cols, np.nan),
    )


def may_hold_pole(nodes: Nodes, turn: float) -> bool:
    """Return whether a pole may lie among the nodes."""
    steps = np.concatenate([_shortest(np.diff(nodes.grid_cols, axis=axis), turn).ravel() for axis in (0, 1)])
    return bool((np.abs(steps[np.isfinite(steps)]) > _SMOOTH * turn).any())


def unwrapped(nodes: Nodes, turn: float) -> NDArray[np.float64] | None:
    """Return the columns of a cell's nodes without the jump at 180 degrees; None where a pole may be near."""
    cols = nodes.grid_cols
    for found in (cols, _nearest(cols, float(cols[np.isfinite(cols)][0]), turn)):
        steps = np.concatenate([np.diff(found, axis=axis).ravel() for axis in (0, 1)])
        if not (np.abs(steps[np.isfinite(steps)]) > _SMOOTH * turn).any():
            return found
    return None
