"""NetCDF4 by h5netcdf, in memory.

h5netcdf is imported when a NetCDF is first asked for: starting waits for none of it.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.plan import Region
from icehouse_server.output.cf_description import Value, Variable, describe
from icehouse_server.output.encoded import Part
from icehouse_server.output.scratch import IN_MEMORY, FilePart, Scratch

if TYPE_CHECKING:
    import h5netcdf  # type: ignore[import-untyped]

_HDF5_MEMORY = 3 * 1024**2
"""Bytes for the library's buffers."""


def encode_netcdf(coverage: Coverage, scratch: Scratch = IN_MEMORY, *, compress: int = 0) -> list[Part]:
    """Encode a coverage as NetCDF4.

    Args:
        coverage: what to encode.
        scratch: where a large file is written.
        compress: deflate level 1 to 9 with the shuffle filter, or 0 for none. None is the default: level 1
            takes 30 ms more for 4 MB of terrain, which no local connection wins back.

    Returns:
        One part: the file.
    """
    size = sum(values.nbytes for values in coverage.bands.values())
    if scratch.wanted(size):
        with scratch.path(".nc", expected=size + (1 << 20)) as path:
            _write_file(coverage, path, compress)
            return [FilePart(path)]
    buffer = io.BytesIO()
    _write_file(coverage, buffer, compress)
    # Not getbuffer(): a view that outlives the file in a cycle of references makes BytesIO raise when it is
    # collected. getvalue() shares the bytes as well, and copies nothing.
    return [buffer.getvalue()]


def netcdf_memory(region: Region, scratch: Scratch) -> int:
    """Return bytes that ``encode_netcdf`` takes at most, in addition to the pixels."""
    rows, cols = region.shape
    size = sum(rows * cols * band.dtype.itemsize for band, _ in region.band_steps)
    return _HDF5_MEMORY + (0 if scratch.wanted(size) else size + size // 4)  # what grows has room for more


def _write_file(coverage: Coverage, place: Path | io.BytesIO, compress: int) -> None:
    import h5netcdf  # noqa: PLC0415 - see the module's docstring

    description = describe(coverage)
    with h5netcdf.File(place, "w") as file:
        file.dimensions = {
            name: size
            for variable in description.coordinates
            for name, size in zip(variable.dims, variable.values.shape, strict=True)
        }
        for name, value in description.attrs.items():
            file.attrs[name] = _attribute(value)
        for variable in description.coordinates:
            _write(file, variable, 0)
        for variable in description.bands:
            _write(file, variable, compress)


def _write(file: "h5netcdf.File", variable: Variable, compress: int) -> None:
    written = file.create_variable(
        variable.name,
        dimensions=variable.dims,
        data=variable.values,
        fillvalue=variable.nodata,
        **({"compression": "gzip", "compression_opts": compress, "shuffle": True} if compress else {}),
    )
    attrs = written.attrs  # made anew at each access, and not for nothing
    for name, value in variable.attrs.items():
        # An attribute that says something of the values has their type (CF-1.10, section 2.5.1).
        attrs[name] = variable.nodata if name == "nodata" else _attribute(value)


def _attribute(value: Value) -> object:
    return np.asarray(value, dtype=np.float64) if isinstance(value, list) else value
