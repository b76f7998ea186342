"""The scales that GDAL's warp is given."""

import pytest

from icehouse_server.raster.gdal_warp import scale_options, whole_reduction


@pytest.mark.parametrize(
    ("reduction", "whole"), [(1.0, 1), (1.04, 1), (1.06, None), (2.96, 3), (2.5, None), (0.3, None)]
)
def test_reduction_near_a_whole_number_is_that_number(reduction, whole):
    assert whole_reduction(reduction) == whole


def test_scales_are_target_pixels_by_source_pixels():
    assert scale_options(2.0, 4.0) == {"XSCALE": 0.5, "YSCALE": 0.25}
