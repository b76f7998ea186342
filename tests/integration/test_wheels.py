"""The built wheels, each alone in a clean environment, as a user gets them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

import icehouse
from icehouse_server.collections import read_collections

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOAD = """
import json, sys
import icehouse
from importlib.metadata import distributions

box = icehouse.GeoBox(crs="EPSG:3413", transform=json.loads(sys.argv[2]), shape=(200, 300))
found = icehouse.Client(sys.argv[1], "arcticdem-32m").load(box)
print(json.dumps({
    "version": icehouse.__version__,
    "installed": sorted({found.metadata["Name"].lower() for found in distributions()}),
    "corner": [float(found.x[0]), float(found.y[0])],
    "sum": float(found.dem.values.astype("float64").sum()),
    "file": icehouse.__file__,
}))
"""


def run(*words, cwd, **environment):
    """Run a program in a clean environment with these variables; what it printed."""
    # Byte code of all that is installed takes longer to make than the little that is run here.
    unwanted = ("ICEHOUSE_", "PYTHON", "UV_COMPILE_BYTECODE", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{words}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def uv(tmp_path_factory):
    """The uv that made the environment: on PATH, or brought by the Makefile; else one of our own."""
    for known in (shutil.which("uv"), ROOT / ".tools" / "uv" / "bin" / "uv"):
        if known and Path(known).is_file():
            return str(known)
    folder = tmp_path_factory.mktemp("uv")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "uv>=0.8", cwd=folder)
    return str(folder / "bin" / "uv")


@pytest.fixture(scope="module")
def wheels(uv, tmp_path_factory):
    """Both wheels, built from source archives of a copy: {"icehouse": path, "icehouse_server": path}."""
    folder = tmp_path_factory.mktemp("wheels")
    dist = folder / "dist"
    build = (uv, "build", "-q", "--python", sys.executable, "--out-dir", dist)
    # The copy is not a repository, which would say it.
    version = {"SETUPTOOLS_SCM_PRETEND_VERSION": icehouse.__version__}
    for name in ("client", "server"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", ".venv", "node_modules")
        source = shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
        run(*build, "--sdist", source, cwd=folder, **version)
    for archive in dist.glob("*.tar.gz"):
        # The page is in it as it was built: no npm now.
        run(*build, "--wheel", archive, cwd=folder, npm_config_registry="http://127.0.0.1:9")
    return {path.name.partition("-")[0]: path for path in dist.glob("*.whl")}


@pytest.fixture(scope="module")
def install(uv, tmp_path_factory):
    """Makes clean environments with nothing but these wheels and what they need; returns the bin folder."""

    def make(*chosen):
        folder = tmp_path_factory.mktemp("environment")
        run(uv, "venv", "-q", "--no-project", "--python", sys.executable, folder / "env", cwd=folder)
        python = folder / "env" / "bin" / "python"
        constraints = ROOT / "constraints.txt"
        words = ("pip", "install", "-q", "--python", python, "-c", constraints, *chosen)
        run(uv, *words, cwd=folder)
        return python.parent

    return make


def named_files(page):
    """The files that the page names: a script, a style sheet and what else there is."""
    names = set(re.findall(r'"(page/[^"]+)"', page))
    assert {Path(name).suffix for name in names} >= {".js", ".css", ".txt"}
    return names


def test_the_client_alone_installs_little_and_loads(wheels, install, shared, native, truth, tmp_path):
    bin_folder = install(wheels["icehouse"])
    box = native("32m", -740_000, 2_650_000, (200, 300))
    transform = json.dumps(tuple(box.affine)[:6])
    reported = json.loads(
        run(bin_folder / "python", "-W", "error", "-c", LOAD, shared.url, transform, cwd=tmp_path)
    )
    assert reported["version"] == icehouse.__version__
    assert {"icehouse", "numpy", "xarray", "httpx"} <= set(reported["installed"])
    heavy = {"icehouse-server", "icechunk", "zarr", "rasterio", "odc-geo", "dask", "pydantic", "fastapi"}
    assert not heavy & set(reported["installed"])
    assert str(ROOT) not in reported["file"]
    assert reported["corner"] == [box.coordinates[name].values[0] for name in "xy"]
    assert reported["sum"] == float(truth("32m", box).astype("float64").sum())


def test_what_is_in_the_wheels(wheels):
    server, client = (
        set(zipfile.ZipFile(wheels[name]).namelist()) for name in ("icehouse_server", "icehouse")
    )
    assert {
        f"icehouse_server/collections/builtin/arcticdem-{size}.toml" for size in ("2m", "10m", "32m")
    } <= server
    assert "icehouse_server/py.typed" in server
    assert {"icehouse_server/testing/__init__.py", "icehouse_server/demo/__init__.py"} < server
    assert not [name for name in server | client if "support" in Path(name).parts]
    page = zipfile.ZipFile(wheels["icehouse_server"]).read("icehouse_server/page/index.html").decode()
    assert {f"icehouse_server/{name}" for name in named_files(page)} < server
    assert "icehouse/py.typed" in client
    for names in (server, client):
        assert any(name.endswith("/licenses/LICENSE") for name in names)
        assert not [name for name in names if "test_" in name or "__pycache__" in name]


def test_wheel_of_the_server_requires_the_client_of_its_version(wheels):
    assert {path.name.split("-")[1] for path in wheels.values()} == {icehouse.__version__}
    with zipfile.ZipFile(wheels["icehouse_server"]) as wheel:
        metadata = wheel.read(f"icehouse_server-{icehouse.__version__}.dist-info/METADATA").decode()
    assert f"Requires-Dist: icehouse=={icehouse.__version__}" in metadata.splitlines()


def test_server_and_client_serve_from_a_clean_environment(wheels, install, tmp_path):
    command = install(*wheels.values()) / "icehouse"
    assert "serve" in run(command, "--help", cwd=tmp_path)
    words = (command, "serve", "--port", "0", "--cache-dir", tmp_path / "cache")
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("ICEHOUSE_", "PYTHON"))
    }
    with subprocess.Popen(
        list(map(str, words)),
        env={**clean, "XDG_CONFIG_HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as daemon:
        try:
            url = daemon.stdout.readline().split()[-1]
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
                page = http.get("/", headers={"accept": "text/html"})
                found = {name: http.get(f"/{name}") for name in named_files(page.text)}
            listed = json.loads(run(command, "collections", "--url", url, "--json", cwd=tmp_path))
        finally:
            daemon.terminate()
    assert daemon.returncode == 0
    assert all(answer.status_code == 200 and answer.content for answer in found.values())
    assert {entry["id"] for entry in listed} == set(read_collections(None))
