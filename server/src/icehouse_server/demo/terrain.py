"""Synthetic terrain: every value is a pure function of place, equal to the bit in every tile that shows it.

Only floor, multiplication and addition are used on the way from a coordinate to a height (no sines, no
matrix products): those come out the same in IEEE arithmetic whatever the shape, alignment or order of an
array, so two tiles that overlap agree in their buffers without any rounding tricks.

All functions take the plane coordinates of pixel centres as two axes, `x` of shape (nx,) and `y` of shape
(ny,), float64 metres in EPSG:3413 or EPSG:3031, and return arrays of shape (ny, nx), rows along `y` in
the order given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    type Axis = NDArray[np.floating[Any]]
    type Floats = NDArray[np.float32]
    type Bools = NDArray[np.bool_]

NODE_M = 192.0
"""Spacing of the lattice on which the costly part (warped ridges) is evaluated."""
DETAIL_M = ((128.0, 7.0), (48.0, 2.5), (16.0, 0.9), (6.0, 0.3))
"""Octaves added per pixel, (wavelength, amplitude) in metres; those a pixel size can't carry are left out."""
HEIGHT_STEP_M = 1.0 / 128.0
_SLAB_ROWS = 256
"""Rows interpolated at a time, so that the intermediate arrays stay in the processor's cache."""
_GRADIENTS = np.array(
    [[1, 0], [-1, 0], [0, 1], [0, -1], [0.7, 0.7], [-0.7, 0.7], [0.7, -0.7], [-0.7, -0.7]], dtype=np.float64
)


def height(x: Axis, y: Axis, *, pixel: float, seed: int = 0) -> Floats:
    """Height above the ellipsoid, float32 metres in steps of 1/128 m, about 0 to 1500.

    Args:
        x: Pixel centres along a row.
        y: Pixel centres down a column.
        pixel: Pixel size in metres: detail finer than two pixels is left out, as averaging would.
        seed: Another seed is another world.
    """
    relief = _cubic(lambda ix, iy: _relief(ix, iy, seed), x, y)
    for number, (wavelength, amplitude) in enumerate(DETAIL_M):
        if wavelength >= 2 * pixel:
            relief += _value_noise(x, y, wavelength, seed + 900 + number) * np.float32(amplitude)
    return _to_steps(np.maximum(relief, np.float32(0.5)))


def dry(x: Axis, y: Axis, *, seed: int = 0) -> Bools:
    """True on land, False in the sea and in lakes (where the mosaics hold nodata)."""
    return _cubic(lambda ix, iy: _dryness(ix, iy, seed), x, y) > 0


def mad(x: Axis, y: Axis, *, seed: int = 0) -> Floats:
    """Median absolute deviation of the heights, float32 metres in steps of 1/128 m, 0.1 to 3."""
    spread = _value_noise(x, y, 2500.0, seed + 31) * np.float32(1.2)
    return _to_steps(np.float32(1.4) + spread + _value_noise(x, y, 400.0, seed + 32) * np.float32(0.2))


def count(x: Axis, y: Axis, *, seed: int = 0) -> NDArray[np.uint8]:
    """Number of strips under a pixel, uint8, 1 to 41."""
    strips = (_value_noise(x, y, 6000.0, seed + 41) + np.float32(1)) * np.float32(20)
    return (strips + np.float32(1)).astype(np.uint8)


def mindate(x: Axis, y: Axis, *, seed: int = 0) -> NDArray[np.int16]:
    """Earliest acquisition, int16 days since 2000-01-01, 2800 to 4400, constant within strips' outlines."""
    steps = np.floor((_value_noise(x, y, 9000.0, seed + 51) + np.float32(1)) * np.float32(16))
    return (steps * np.float32(50) + np.float32(2800)).astype(np.int16)


def maxdate(x: Axis, y: Axis, *, seed: int = 0) -> NDArray[np.int16]:
    """Latest acquisition, int16 days since 2000-01-01, 5600 to 7200, constant within strips' outlines."""
    steps = np.floor((_value_noise(x, y, 7000.0, seed + 52) + np.float32(1)) * np.float32(16))
    return (steps * np.float32(50) + np.float32(5600)).astype(np.int16)


def datamask(x: Axis, y: Axis, *, seed: int = 0) -> NDArray[np.uint8]:
    """1 where the height comes from stereo, 0 where it was filled or masked; uint8."""
    return (_value_noise(x, y, 3000.0, seed + 61) < np.float32(0.62)).astype(np.uint8)


def browse(x: Axis, y: Axis, *, pixel: float, seed: int = 0) -> NDArray[np.uint8]:
    """Hillshade of `height`, light from the upper left at 45 degrees, uint8, 1 to 255."""
    wide_x = np.concatenate([[x[0] - pixel], x, [x[-1] + pixel]])
    down = 1.0 if len(y) < 2 or y[1] < y[0] else -1.0  # noqa: PLR2004 - a direction takes two rows
    wide_y = np.concatenate([[y[0] + down * pixel], y, [y[-1] - down * pixel]])
    z = height(wide_x, wide_y, pixel=pixel, seed=seed)
    scale = np.float32(1.0 / (2.0 * pixel))
    east = (z[1:-1, 2:] - z[1:-1, :-2]) * scale
    north = (z[:-2, 1:-1] - z[2:, 1:-1]) * np.float32(down) * scale
    light = np.float32(0.7071) + np.float32(0.5) * (east - north)
    light /= np.sqrt(east * east + north * north + np.float32(1))
    shade: NDArray[np.uint8] = (np.clip(light, 0, 1) * np.float32(254) + np.float32(1)).astype(np.uint8)
    return shade


def _to_steps(metres: Floats) -> Floats:
    return np.rint(metres * np.float32(1 / HEIGHT_STEP_M)) * np.float32(HEIGHT_STEP_M)


def _hash(ix: NDArray[np.int64], iy: NDArray[np.int64], seed: int) -> NDArray[np.uint32]:
    """Well-mixed 32 bits of a lattice node; `ix` and `iy` broadcast."""
    h = ix.astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32((seed * 0x85EBCA6B) & 0xFFFFFFFF)
    h = h ^ (h >> np.uint32(15))
    h = h * np.uint32(0x2C1B3C6D) + iy.astype(np.uint32) * np.uint32(0xC2B2AE35)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0x297A2D39)
    return h ^ (h >> np.uint32(16))


def _gradient_noise(px: Axis, py: Axis, seed: int) -> Axis:
    """Perlin's noise at points (any shape), lattice of spacing 1, about -1 to 1."""
    ix, iy = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
    fx, fy = px - ix, py - iy
    sx, sy = (t * t * t * (t * (t * 6 - 15) + 10) for t in (fx, fy))

    def corner(dx: int, dy: int) -> Axis:
        slope = _GRADIENTS[_hash(ix + dx, iy + dy, seed) & np.uint32(7)]
        along: Axis = slope[..., 0] * (fx - dx) + slope[..., 1] * (fy - dy)
        return along

    south = corner(0, 0) * (1 - sx) + corner(1, 0) * sx
    north = corner(0, 1) * (1 - sx) + corner(1, 1) * sx
    noise: Axis = (south * (1 - sy) + north * sy) * 1.5
    return noise


def _continent(px: Axis, py: Axis, seed: int) -> Axis:
    return _gradient_noise(px / 90e3, py / 90e3, seed + 1) + 0.5 * _gradient_noise(
        px / 31e3, py / 31e3, seed + 2
    )


def _relief(ix: NDArray[np.int64], iy: NDArray[np.int64], seed: int) -> Axis:
    """Height in metres at lattice nodes: warped ridges that sink towards the sea."""
    px, py = ix * NODE_M, iy * NODE_M
    qx = px + 5000 * _gradient_noise(px / 21e3, py / 21e3, seed + 3)
    qy = py + 5000 * _gradient_noise(px / 21e3, py / 21e3, seed + 4)
    ridges = np.zeros_like(px)
    weight = np.ones_like(px)
    for octave in range(5):
        size = 16e3 / 2.1**octave
        crest = 1 - np.abs(_gradient_noise(qx / size, qy / size, seed + 10 + octave))
        crest = crest * crest * weight
        ridges = ridges + crest * 0.5**octave
        weight = np.clip(crest * 1.6, 0, 1)
    rise = np.clip((_continent(px, py, seed) + 0.55) * 0.8, 0, 1)
    metres: Axis = 20 + rise * (120 + ridges * 680 * rise)
    return metres


def _dryness(ix: NDArray[np.int64], iy: NDArray[np.int64], seed: int) -> Axis:
    """Above zero on land, at lattice nodes."""
    px, py = ix * NODE_M, iy * NODE_M
    rough = 0.12 * _gradient_noise(px / 2300, py / 2300, seed + 6)
    lake = 0.78 - _gradient_noise(px / 7000, py / 7000, seed + 5)
    margin: Axis = np.minimum(_continent(px, py, seed) + 0.55, lake) + rough
    return margin


def _cubic(nodes_of: Callable[[NDArray[np.int64], NDArray[np.int64]], Axis], x: Axis, y: Axis) -> Floats:
    """Catmull-Rom interpolation between nodes, first along rows, then down columns, in float32."""
    ix, wx = _cubic_weights(x)
    iy, wy = _cubic_weights(y)
    nx, ny = np.arange(ix.min() - 1, ix.max() + 3), np.arange(iy.min() - 1, iy.max() + 3)
    grid_x, grid_y = np.meshgrid(nx, ny)
    nodes = nodes_of(grid_x, grid_y).astype(np.float32)
    left, top = ix - nx[0], iy - ny[0]
    across = sum(nodes[:, left + k] * wx[k + 1] for k in (-1, 0, 1, 2))
    out = np.empty((len(y), len(x)), dtype=np.float32)
    for start in range(0, len(y), _SLAB_ROWS):
        rows = slice(start, start + _SLAB_ROWS)
        out[rows] = sum(across[top[rows] + k] * wy[k + 1, rows, None] for k in (-1, 0, 1, 2))
    return out


def _cubic_weights(axis: Axis) -> tuple[NDArray[np.int64], Floats]:
    """The node left of each coordinate, and the weights (4, n) of the nodes -1, 0, 1, 2 from there."""
    scaled = axis / NODE_M
    index = np.floor(scaled)
    t = scaled - index
    weights = np.stack(
        [
            t * (t * (1 - 0.5 * t) - 0.5),
            t * t * (1.5 * t - 2.5) + 1,
            t * (t * (2 - 1.5 * t) + 0.5),
            t * t * (0.5 * t - 0.5),
        ]
    )
    return index.astype(np.int64), weights.astype(np.float32)


def _value_noise(x: Axis, y: Axis, wavelength: float, seed: int) -> Floats:
    """Smooth noise between -1 and 1 whose lattice lies along the axes, so that it separates."""
    ix, tx = _smooth(x / wavelength)
    iy, ty = _smooth(y / wavelength)
    nx, ny = np.arange(ix.min(), ix.max() + 2), np.arange(iy.min(), iy.max() + 2)
    nodes = _hash(nx[None, :], ny[:, None], seed).astype(np.float32) * np.float32(2.0**-31) - np.float32(1)
    left, top = ix - nx[0], iy - ny[0]
    start = nodes[:, left]
    across = start + (nodes[:, left + 1] - start) * tx
    out = np.empty((len(y), len(x)), dtype=np.float32)
    for row in range(0, len(y), _SLAB_ROWS):
        rows = slice(row, row + _SLAB_ROWS)
        upper = across[top[rows]]
        out[rows] = upper + (across[top[rows] + 1] - upper) * ty[rows, None]
    return out


def _smooth(scaled: Axis) -> tuple[NDArray[np.int64], Floats]:
    index = np.floor(scaled)
    t = scaled - index
    return index.astype(np.int64), (t * t * (3 - 2 * t)).astype(np.float32)
