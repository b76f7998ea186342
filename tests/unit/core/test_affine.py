"""Affines and CRS transforms of arrays."""

import numpy as np
import pytest
from affine import Affine
from odc.geo.crs import CRS

from icehouse_server.core.geometry.affine import apply_affine
from icehouse_server.core.geometry.transformers import project_points, transformer

X, Y = np.array([[0.0, 1.5], [-2.0, 3.0]]), np.array([[4.0, 0.25], [7.0, -1.0]])


def test_arrays_are_transformed_as_points_are():
    affine = Affine.translation(3, -1) @ Affine.rotation(30) @ Affine.scale(2, -5)
    x, y = apply_affine(affine, X, Y)
    for index in np.ndindex(X.shape):
        assert (x[index], y[index]) == affine @ (X[index], Y[index])


@pytest.mark.parametrize("source", [None, CRS("EPSG:4326")])
def test_points_stay_where_there_is_nothing_to_transform(source):
    x, y = project_points(X, Y, source, CRS("EPSG:4326"))
    assert x is X
    assert y is Y


def test_points_are_projected_with_longitude_first():
    x, y = project_points(X, Y, CRS("EPSG:4326"), CRS("EPSG:3857"))
    np.testing.assert_allclose(x, X * 111319.49079327358)
    assert np.sign(y).tolist() == np.sign(Y).tolist()


def test_transformer_is_made_once_for_each_pair():
    assert transformer(CRS("EPSG:4326"), CRS("EPSG:3857")) is transformer(CRS("EPSG:4326"), CRS("EPSG:3857"))
