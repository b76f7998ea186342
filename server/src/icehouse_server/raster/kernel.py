"""Our own warp kernel: places on a lattice, pixels by compiled code, without the GIL.

Transforms are computed exactly at the nodes of a lattice over the target, and interpolated between them where
that is right to ``TOLERANCE``; elsewhere (poles, discontinuities) for every pixel. The pixels follow GDAL's
rules; GDAL is the oracle of the property tests, and does the work where the compiled part is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from icehouse_server.core.ports import Pixels

try:
    from icehouse_server.raster import _warp_kernel
except ImportError:  # built without a C compiler
    _warp_kernel = None  # type: ignore[assignment]

METHODS = ("nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average")
"""Resampling methods by GDAL's names, in the order that the compiled part knows them by."""

TOLERANCE = 0.005
"""Pixels of the source by which an interpolated place may be off, at the points where that is checked.

A smooth transform is off by no more anywhere: it strays most in the middle of a cell and of its sides."""

MOST_REDUCTION = 1e4
"""Pixels of the source under one of the target, along an axis, up to which it widens its kernels."""

_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})
_STEPS = (32, 16, 8)
"""Pixels of the target along the side of a cell, from which the largest is taken that suits most cells."""
_MOST = 0.9
"""Part of the cells whose places a step must get right by interpolation."""

type Coordinates = NDArray[np.float64]
type Project = Callable[[Coordinates, Coordinates], tuple[Coordinates, Coordinates]]
"""From (columns, rows) of the target to (columns, rows) of the source, in pixels from its upper left corner.

Not finite where there is no such place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the pixels of a target lie on a source."""

    step: int
    """Pixels of the target along the side of a cell."""
    lattice: NDArray[np.float64]
    """(cell rows + 1, cell columns + 1, 2): column and row on the source of each node."""
    cells: NDArray[np.int32]
    """(cell rows, cell columns): the number of the cell's block, or -1 where its places are interpolated."""
    blocks: NDArray[np.float64]
    """(blocks, step + 1, step + 1, 2): the place of every pixel of a cell."""


def can_warp(dtype: np.dtype[np.generic], method: str) -> bool:
    """Return whether the compiled part is there and knows a dtype and a method."""
    return _warp_kernel is not None and dtype.name in _DTYPES and method in METHODS


def name() -> str:
    """Return which warp answers, for whatever must tell the pixels of one from those of the other."""
    return "gdal" if _warp_kernel is None else "kernel"


def places_of(project: Project, shape: tuple[int, int], method: str) -> Places:
    """Compute where the pixels of a target lie.

    Args:
        project: from target to source.
        shape: (rows, columns) of the target.
        method: averages need the corners of pixels, the others their centres.
    """
    origin = 0.0 if method == "average" else 0.5
    for step in _STEPS:
        lattice, wrong = _lattice(project, shape, step, origin)
        if wrong.mean() <= 1 - _MOST:
            break
    rows, cols = np.nonzero(wrong)
    cells = np.full(wrong.shape, -1, dtype=np.int32)
    cells[rows, cols] = np.arange(rows.size)
    return Places(step=step, lattice=lattice, cells=cells, blocks=_blocks(project, rows, cols, step, origin))


def _lattice(
    project: Project, shape: tuple[int, int], step: int, origin: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the nodes' places, and which cells can't be interpolated between them.

    The cells are looked at in their middle and in the middle of their sides.
    """
    down, along = (-(-size // step) for size in shape)
    rows = origin + np.arange(2 * down + 1) * (step / 2)
    cols = origin + np.arange(2 * along + 1) * (step / 2)
    found = _project(project, *np.broadcast_arrays(cols[np.newaxis, :], rows[:, np.newaxis]))
    nodes = found[::2, ::2]
    with np.errstate(invalid="ignore"):
        level = _off((nodes[:, :-1] + nodes[:, 1:]) / 2, found[::2, 1::2])
        upright = _off((nodes[:-1] + nodes[1:]) / 2, found[1::2, ::2])
        corners = nodes[:-1, :-1] + nodes[:-1, 1:] + nodes[1:, :-1] + nodes[1:, 1:]
        middle = _off(corners / 4, found[1::2, 1::2])
        off = np.maximum.reduce([level[:-1], level[1:], upright[:, :-1], upright[:, 1:], middle])
        wrong = ~(off <= TOLERANCE)
    return np.ascontiguousarray(nodes), wrong


def _off(guess: NDArray[np.float64], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by how many pixels places are off; NaN where one is not finite."""
    off: NDArray[np.float64] = np.abs(guess - exact).max(axis=-1)
    return off


def _blocks(
    project: Project, rows: NDArray[np.intp], cols: NDArray[np.intp], step: int, origin: float
) -> NDArray[np.float64]:
    """Return the exact places of cells: (cells, step + 1, step + 1, 2)."""
    inside = origin + np.arange(step + 1.0)
    down = (rows * step)[:, np.newaxis, np.newaxis] + inside[np.newaxis, :, np.newaxis]
    along = (cols * step)[:, np.newaxis, np.newaxis] + inside[np.newaxis, np.newaxis, :]
    return _project(project, *np.broadcast_arrays(along, down))


def _project(project: Project, cols: Coordinates, rows: Coordinates) -> NDArray[np.float64]:
    """Return places of one array, with column and row along a last axis."""
    found = project(cols.ravel(), rows.ravel())
    return np.stack(found, axis=-1).reshape(*cols.shape, 2)


def warp(
    source: Pixels,
    places: Places,
    *,
    method: str,
    scales: tuple[float, float],
    nodata: np.generic | None,
    out: Pixels,
    threads: int = 1,
) -> None:
    """Resample a raster.

    Args:
        source: (rows, columns), a dtype that ``can_warp`` knows.
        places: of the target's pixels.
        method: one of ``METHODS``.
        scales: pixels of the source under one of the target, along columns and rows: kernels are widened by
            these.
        nodata: a value of the dtype that marks invalid pixels, NaN for NaN; None where all are valid.
        out: (rows, columns) of the target, the same dtype; pixels that get no value stay as they are.
        threads: to work in, this one included.

    Raises:
        MemoryError: there is none for the weights.
        ValueError: the shapes do not fit each other.
    """
    _warp_kernel.warp(
        np.ascontiguousarray(source),
        out,
        places.lattice,
        places.cells,
        places.blocks,
        np.array([] if nodata is None else [nodata], dtype=source.dtype),
        source.dtype.kind,
        places.step,
        METHODS.index(method),
        1 / scales[0],
        1 / scales[1],
        threads,
    )
