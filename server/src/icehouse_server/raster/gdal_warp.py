"""What every call of GDAL's warp is given here: its memory, and the scales of its kernels."""

WARP_MEMORY_MB = 1024
"""GDAL's memory limit for one call: more than one can need, so that GDAL never cuts the work again."""

WIDENED_KERNELS = frozenset({"bilinear", "cubic", "cubic_spline", "lanczos"})
"""Methods whose kernels GDAL widens by the scale; the others look at what a pixel covers."""

_NEARLY_WHOLE = 0.05
"""GDAL takes a reduction this near to a whole number for that number."""


def whole_reduction(reduction: float) -> int | None:
    """Return the whole number that GDAL takes a reduction for, None where it takes it as it is.

    Args:
        reduction: source pixels under one target pixel, along one axis.
    """
    whole = int(reduction + 0.5)
    return whole if abs(reduction - whole) < _NEARLY_WHOLE else None


def scale_options(across: float, down: float) -> dict[str, float]:
    """Return the warp options that hold GDAL's kernels to reductions along columns and rows.

    What GDAL finds for itself depends on how the work is cut into calls.
    """
    return {"XSCALE": 1 / across, "YSCALE": 1 / down}
