# The compiled part of icehouse_server.raster.kernel: server/kernel/warp_kernel.c.

from collections.abc import Buffer

def warp(
    source: Buffer,
    out: Buffer,
    lattice: Buffer,
    cells: Buffer,
    blocks: Buffer,
    nodata: Buffer,
    kind: str,
    step: int,
    method: int,
    x_scale: float,
    y_scale: float,
    threads: int,
    /,
) -> None: ...
