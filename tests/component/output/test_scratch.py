"""Answers that are written to the cache's disk are those of memory, and leave nothing there."""

from __future__ import annotations

import errno
import io
import shutil
from collections import namedtuple

import pytest
import xarray as xr
from rasterio.io import MemoryFile

from icehouse_server.core.errors import DiskFullError
from icehouse_server.output import FilePart, Scratch, encode
from support.coverages import joined, make_band, make_coverage

BANDS = [make_band("float32", -9999.0), make_band("uint8", 0, "count")]


@pytest.mark.parametrize("name", ["geotiff", "netcdf"])
def test_the_file_is_the_one_of_memory_and_has_no_name(tmp_path, name):
    coverage = make_coverage(BANDS)
    encoded = encode(coverage, name, Scratch(folder=tmp_path, above=0))
    (part,) = encoded.parts
    assert isinstance(part, FilePart)
    assert encoded.memory == 0
    assert not list(tmp_path.iterdir())
    whole = joined(encoded)
    assert joined(encode(coverage, name, Scratch(folder=tmp_path, above=0))) == whole
    assert part.read(10, 20) == whole[10:20]
    in_memory = joined(encode(coverage, name))
    if name == "geotiff":
        assert whole == in_memory
    else:  # HDF5 rounds the end of a file in memory up
        with xr.open_dataset(io.BytesIO(whole)) as one, xr.open_dataset(io.BytesIO(in_memory)) as other:
            xr.testing.assert_identical(one.load(), other.load())


def test_a_geotiff_of_the_disk_is_cloud_optimised(tmp_path):
    encoded = encode(make_coverage(BANDS), "geotiff", Scratch(folder=tmp_path, above=0))
    with MemoryFile(joined(encoded)) as file, file.open() as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_small_answers_stay_in_memory(tmp_path):
    for scratch in (Scratch(folder=tmp_path), Scratch(above=0)):
        assert isinstance(encode(make_coverage(BANDS), "geotiff", scratch).parts[0], bytes)


def test_what_a_killed_daemon_left_is_removed(tmp_path):
    left = tmp_path / "answers" / "answer.tif"
    left.parent.mkdir()
    left.touch()
    assert Scratch.in_cache(tmp_path).folder == left.parent
    assert not left.exists()


@pytest.mark.parametrize("free", [1000, 10**9])
def test_a_full_disk_is_named(tmp_path, monkeypatch, free):
    """Before anything is written, where it can be known, and otherwise when it shows."""

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rasterio.shutil.copy", fail)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, free))
    with pytest.raises(DiskFullError, match="cache folder"):
        encode(make_coverage(BANDS), "geotiff", Scratch(folder=tmp_path, above=0))
    assert not list(tmp_path.iterdir())
