"""``open_zarr``: what it says without the packages that it needs, and of a level that is none."""

from __future__ import annotations

import importlib.util

import pytest

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

    def remember(url, **options):
        asked.update(options, url=url)

    monkeypatch.setattr(_cube.xr, "open_zarr", remember)
    _cube.open_cube("http://here/cube.zarr", 3, {"Authorization": "Bearer x"}, {"mask_and_scale": False})
    assert asked == {
        "url": "http://here/cube.zarr",
        "group": "3",
        "chunks": None,
        "storage_options": {"headers": {"Authorization": "Bearer x"}},
        "mask_and_scale": False,
    }
    _cube.open_cube("http://here/cube.zarr", 0, {}, {"chunks": {}})
    assert (asked["group"], asked["chunks"]) == (None, {})
