"""What the process leaves behind: nothing outside the cache folder, and nothing that others may change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BOX = {"bbox": "-712000,2640000,-704000,2648000", "bbox_crs": "EPSG:3413"}
FORMATS = ["netcdf", "geotiff", "zarr", "npy", "png", "json"]


def look(folder):
    """Every file and folder below, with what a write would change."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def places(tmp_path):
    found = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    for place in found.values():
        place.mkdir()
        (place / "kept").write_text("as it was")
    return found


def test_the_daemon_writes_nothing_outside_its_cache_folder(start_daemon, places):
    before = {name: look(place) for name, place in places.items()}
    settings = {name: str(place) for name, place in places.items()}
    umask = os.umask(0)
    try:
        with start_daemon({**settings, "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as daemon:
            os.umask(umask)
            for name in FORMATS:
                assert daemon.get(**BOX, f=name).status_code == 200
            assert daemon.get(**BOX, crs="EPSG:32655", resolution="100", f="geotiff").status_code == 200
            assert daemon.http.get("/docs").status_code == 200
    finally:
        os.umask(umask)
    assert {name: look(place) for name, place in places.items()} == before
    folder = daemon.cache_dir.parent
    assert {path.name for path in folder.iterdir()} == {"cache", "log"}
    written = [daemon.cache_dir, *daemon.cache_dir.rglob("*")]
    assert len(written) > 20
    others = stat.S_IWGRP | stat.S_IWOTH
    assert [path for path in written if path.lstat().st_mode & others and not path.is_symlink()] == []


@pytest.mark.parametrize(
    "words", ["read_only: true", "cap_drop:\n      - ALL", "no-new-privileges:true", '"127.0.0.1:4326']
)
def test_the_container_can_do_little(words):
    assert words in (ROOT / "compose.yaml").read_text()


def test_the_container_is_not_root():
    assert "\nUSER icehouse\n" in (ROOT / "docker" / "Dockerfile").read_text()
