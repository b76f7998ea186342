"""Failed allocations of every library are known as such."""

import numpy as np
import pytest
import rasterio

from icehouse_server.raster.out_of_memory import is_out_of_memory


def of_numpy():
    np.empty(2**57)


def of_gdal():
    with rasterio.open("", "w", driver="MEM", height=2**30, width=2**30, count=1, dtype="float64"):
        pass


@pytest.mark.parametrize("allocate", [of_numpy, of_gdal])
def test_failed_allocations_are_recognised(allocate):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which class is what is asked
        allocate()
    assert is_out_of_memory(caught.value), repr(caught.value)


def test_other_errors_are_not():
    error = ValueError("a")
    error.__cause__ = KeyError("b")
    assert not is_out_of_memory(error)
