"""The command line against a running daemon: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.xr import ODCExtensionDs  # noqa: F401 - registers .odc

from icehouse_server.cli import main
from icehouse_server.collections import read_collections

BBOX = "-745000,2645000,-735000,2650000"
REGION = ("--bbox", BBOX, "--bbox-crs", "EPSG:3413")


@dataclass(kw_only=True)
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def icehouse_command(monkeypatch, capsys, tmp_path):
    """Runs `icehouse ...` in this process, with nothing of ours in the environment."""
    for name in [name for name in os.environ if name.startswith("ICEHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["icehouse", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(status=ended.value.code or 0, out=said.out, err=said.err)

    return run


@pytest.fixture
def ask(icehouse_command, shared, monkeypatch):
    """The same, with a daemon to talk to."""
    monkeypatch.setenv("ICEHOUSE_URL", shared.url)
    return icehouse_command


def refusal(ended):
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.startswith("icehouse: ")
    assert "Traceback" not in ended.err
    return ended.err


def test_the_command_is_installed():
    (found,) = entry_points(group="console_scripts", name="icehouse")
    assert found.load() is main


def test_collections_are_listed(ask):
    listed = ask("collections")
    assert listed.status == 0
    for size in ("2m", "10m", "32m"):
        assert f"arcticdem-{size}" in listed.out
    documents = json.loads(ask("collections", "--json").out)
    assert {document["id"] for document in documents} == set(read_collections(None))
    codes = {document["id"].partition("-")[0]: document["proj:code"] for document in documents}
    assert (codes["arcticdem"], codes["rema"]) == ("EPSG:3413", "EPSG:3031")


def test_a_plan_says_what_would_be_fetched_and_fetches_nothing(ask, shared):
    place = ("--bbox", "1144000,-1152000,1150000,-1146000", "--bbox-crs", "EPSG:3413", "--bands", "maxdate")
    before = shared.ready()["collections"]["arcticdem-32m"]["chunks"]
    document = json.loads(ask("plan", "arcticdem-32m", *place, "--json").out)
    chunks = document["chunks"]
    assert chunks["absent"] == chunks["needed"] > 0
    said = ask("plan", "arcticdem-32m", *place)
    assert said.status == 0
    assert f"{chunks['needed']} chunks: 0 cached" in said.out
    assert shared.ready()["collections"]["arcticdem-32m"]["chunks"] == before


def png_size(path):
    """Columns and rows of a picture, from its header."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", head[16:])


def read_file(path):
    """Heights in a file of any of the formats, as (rows, columns)."""
    if path.name.endswith(".zarr.zip"):
        import zarr

        with xr.open_zarr(zarr.storage.ZipStore(path, mode="r"), chunks=None) as found:
            return found.dem.values
    if path.suffix == ".nc":
        with xr.open_dataset(path) as found:
            return found.dem.values
    if path.suffix == ".npy":
        return np.load(path).squeeze()
    if path.suffix == ".json":
        values = json.loads(path.read_text())["ranges"]["dem"]
        return np.array(values["values"], dtype="float32").reshape(values["shape"])
    with rasterio.open(path) as found:
        assert found.crs.to_epsg() == 3413
        assert found.nodata == -9999
        assert found.res == (32, 32)
        return found.read(1)


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr.zip", ".npy", ".json"])
def test_a_region_is_loaded_into_a_file_by_its_suffix(ask, tmp_path, native, truth, suffix):
    file = tmp_path / f"region{suffix}"
    done = ask("load", "arcticdem-32m", file, *REGION)
    assert done.status == 0
    assert done.out.startswith(str(file)[:40])
    assert "chunks:" in done.err
    expected = truth("32m", native("32m", -745_024, 2_650_016, (157, 314)))  # snapped outward
    np.testing.assert_array_equal(read_file(file), expected)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_picture_has_the_shape_asked_for(ask, tmp_path):
    file = tmp_path / "region.png"
    done = ask("load", "arcticdem-32m", file, *REGION, "--width", 60, "--height", 30, "--json")
    reported = json.loads(done.out)
    assert reported["file"] == str(file)
    assert reported["bytes"] == file.stat().st_size
    assert reported["cache_status"].startswith("icehouse;")
    assert png_size(file) == (60, 30)


def test_another_grid_and_bands_are_passed_on(ask, tmp_path):
    file = tmp_path / "region.tif"
    words = ("--bbox", "150.1,65.1,150.3,65.2", "--crs", "EPSG:4326", "--resolution", "0.01")
    assert ask("load", "arcticdem-32m", file, *words, "--bands", "dem,count").status == 0
    with rasterio.open(file) as found:
        assert found.crs.to_epsg() == 4326
        assert found.descriptions == ("dem", "count")
        assert found.shape == (10, 20)


def test_status_says_that_it_is_ready_and_what_is_cached(ask, shared):
    said = ask("status")
    assert said.status == 0
    assert said.out.startswith("ready\n")
    assert "arcticdem-10m: " in said.out
    document = json.loads(ask("status", "--json").out)
    assert document["ready"] is True
    names = {entry["id"] for entry in document["collections"]}
    assert names == shared.ready()["collections"].keys()


def test_settings_are_shown_with_where_they_come_from(icehouse_command, tmp_path, monkeypatch):
    file = tmp_path / "icehouse.toml"
    file.write_text("port = 5000\n")
    monkeypatch.setenv("ICEHOUSE_LOG_LEVEL", "error")
    shown = json.loads(icehouse_command("config", "show", "--json").out)
    assert shown["port"] == {"value": 5000, "origin": "file icehouse.toml"}
    assert shown["log_level"] == {"value": "error", "origin": "environment ICEHOUSE_LOG_LEVEL"}
    assert shown["host"]["origin"] == "default"
    table = icehouse_command("config", "show", "--config", file)
    assert table.status == 0
    assert f"file {file}" in table.out
    said = refusal(icehouse_command("config", "show", "--config", tmp_path / "none.toml"))
    assert "none.toml" in said


@pytest.mark.parametrize("words", [["collections"], ["status"], ["plan", "x"], ["load", "x", "x.tif"]])
def test_without_a_daemon_it_says_how_to_start_one(icehouse_command, words):
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    said = refusal(icehouse_command(*words, "--url", url))
    assert url in said
    assert "icehouse serve" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["load", "arcticdem-32m", "x.tif", "--bbox", "0,0,1,1"], "outside the collection"),
        (["load", "arcticdem-32m", "x.tif", "--bbox", "1,2,3"], "bbox"),
        (["plan", "arcticdem-32m", "--bbox", "a,b,c,d"], "bbox"),
        (["plan", "arcticdem-32m", *REGION, "--bands", "depth"], "'depth'"),
        (["plan", "arcticdem-32m", *REGION, "--crs", "EPSG:1"], "crs"),
        (["plan", "arcticdem-32m", "--bbox", "-180,60,180,90"], "max_"),
        (["plan", "arcticdem-5m", *REGION], "'arcticdem-5m'"),
        (["load", "arcticdem-32m", "x.jpg", *REGION], ".tif"),
    ],
)
def test_what_is_wrong_is_said_and_no_file_is_left(ask, tmp_path, words, expected):
    assert expected in refusal(ask(*words))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_is_a_usage_error(ask):
    ended = ask("plan", "arcticdem-32m", "--width", "wide")
    assert ended.status == 2
    assert "--width" in ended.err


def test_a_program_that_is_no_daemon_is_told_apart(icehouse_command, standins):
    said = refusal(icehouse_command("collections", "--url", standins.cogs_base))
    assert "not an Icehouse daemon" in said


@pytest.mark.slow
def test_the_demo_runs_end_to_end(launcher, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "icehouse_server", "demo", "--json", "--folder", str(tmp_path / "demo")],
        env=launcher.environment(url="http://127.0.0.1:9", port="9"),  # the user's own must not matter
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["cold_requests"] > 0
    assert figures["warm_requests"] == 0
    assert figures["warm_seconds"] < figures["cold_seconds"]
    tif, png = figures["files"]
    with rasterio.open(tif) as found:
        assert found.crs.to_epsg() == 3413
        assert float((found.read(1) != found.nodata).mean()) > 0.5
        assert png_size(Path(png)) == (found.width, found.height)
