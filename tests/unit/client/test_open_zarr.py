"""``open_zarr``: what it says without the packages that it needs, and of a level that is none."""

from __future__ import annotations

import importlib.util

import pytest
import xarray as xr

import icehouse
from icehouse import _cube


@pytest.mark.parametrize("package", ["zarr", "fsspec", "aiohttp"])
def test_what_is_not_installed_is_named(monkeypatch, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(ImportError, match=f"open_zarr needs {package}, .*pip install zarr"):
        _cube.open_cube("http://127.0.0.1:1", 0, {}, {})


@pytest.mark.parametrize("level", [-1, 1.0, "1", True, None])
def test_a_level_is_a_whole_number(level):
    with pytest.raises(icehouse.BadParameter, match="level: must be a whole number from 0"):
        _cube.open_cube("http://127.0.0.1:1", level, {}, {})


def test_level_and_token_go_to_xarray(monkeypatch):
    asked = {}

    def remember(store, **options):
        asked.update(options, store=store)
        return xr.Dataset(coords={"spatial_ref": 0})

    monkeypatch.setattr(_cube.xr, "open_zarr", remember)
    token = {"Authorization": "Bearer x"}
    _cube.open_cube("http://here/cube.zarr", 3, token, {"mask_and_scale": False})
    store = asked.pop("store")
    assert asked == {"group": "3", "chunks": None, "mask_and_scale": False}
    assert (store.root, store.fs.kwargs["headers"]) == ("http://here/cube.zarr", token)
    _cube.open_cube("https://here/cube.zarr", 0, {}, {"chunks": {}, "storage_options": {"timeout": 3}})
    assert (asked["group"], asked["chunks"]) == (None, {})
    assert asked["store"].fs.kwargs == {"timeout": 3}


@pytest.mark.parametrize("host", ["[::1]:4326", "[fd00::1%25eth0]:80", "localhost"])
def test_the_address_of_the_store_is_kept(monkeypatch, host):
    stores = []

    def remember(store, **_):
        stores.append(store)
        return xr.Dataset(coords={"spatial_ref": 0})

    monkeypatch.setattr(_cube.xr, "open_zarr", remember)
    _cube.open_cube(f"http://{host}/collections/a/cube.zarr", 0, {}, {})
    assert stores[0].root == f"http://{host}/collections/a/cube.zarr"
