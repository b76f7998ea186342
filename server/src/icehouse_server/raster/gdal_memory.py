"""The memory that GDAL keeps for itself."""

import os

_BLOCK_CACHE_MB = 64
"""Enough for a row of tiles of what is read or written."""


def bound_block_cache() -> None:
    """Bound GDAL's cache of blocks, which would take a twentieth of the machine, and which no budget counts.

    To be called before GDAL reads or writes. A value in the environment is left as it is.
    """
    os.environ.setdefault("GDAL_CACHEMAX", str(_BLOCK_CACHE_MB))
