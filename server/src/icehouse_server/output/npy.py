"""NumPy's own format: the pixels and nothing else."""

import io

import numpy as np

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.plan import Region
from icehouse_server.output.encoded import Part
from icehouse_server.output.scratch import IN_MEMORY, Scratch
from icehouse_server.output.zarrzip import little_endian


def encode_npy(coverage: Coverage, _: Scratch = IN_MEMORY) -> list[Part]:
    """Encode the pixels of a coverage as one array (bands, rows, columns), also where there is one band.

    Where the collection has a time axis it is (bands, time, rows, columns).

    As titiler and rio-tiler write it, without their mask. Bands of several dtypes are promoted to one that
    holds them all (``numpy.result_type``). Invalid pixels hold the fill of their band; its value is in
    the collection's schema.

    Returns:
        The header and each band's pixels, little endian.
    """
    region = coverage.region
    dtype = np.result_type(*(band.dtype for band in region.bands))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {
            "descr": np.lib.format.dtype_to_descr(dtype.newbyteorder("<")),
            "fortran_order": False,
            "shape": (len(region.bands), *coverage.bands[region.bands[0].name].shape),
        },
    )
    pixels = [little_endian(coverage.bands[band.name].astype(dtype, copy=False)) for band in region.bands]
    return [header.getvalue(), *pixels]


def npy_memory(region: Region, _: Scratch) -> int:
    """Return bytes that ``encode_npy`` takes at most, in addition to the pixels: bands that it promotes."""
    rows, cols = region.shape
    dtype = np.result_type(*(band.dtype for band in region.bands))
    return rows * cols * sum(dtype.itemsize for band, _ in region.band_steps if band.dtype != dtype)
