"""Affine transforms of arrays: where pixels lie, and which pixels lie somewhere."""

import numpy as np
from affine import Affine
from numpy.typing import NDArray

type Coordinates = NDArray[np.float64]


def apply_affine(affine: Affine, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
    """Return x and y of points of any shape, transformed; the ``@`` of ``Affine`` is typed for one point."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
