"""What is imported before a command does anything: each start of a daemon waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_READY = """
import asyncio, os, sys
from pathlib import Path
from icehouse_server.cli.serving import create_app
from icehouse_server.settings import Settings

async def start():
    app = create_app(Settings(cache_dir=Path(sys.argv[1]), collections=["arcticdem-32m"]))
    async with app.router.lifespan_context(app):
        print("imported", *WITHOUT & set(sys.modules), flush=True)
        os._exit(0)

asyncio.run(start())
"""


def _run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "without"),
    [
        # pandas alone takes a third of a second.
        ("icehouse_server.cli.serving", {"xarray", "pandas", "httpx", "ee", "matplotlib"}),
        ("icehouse_server.cli.commands", {"fastapi", "icechunk", "numpy", "httpx"}),
    ],
)
def test_a_command_imports_what_it_needs_when_it_runs(module, without):
    assert _run(f"import sys, {module}; print(*{without!r} & set(sys.modules))") == ""


def test_a_daemon_is_ready_without_what_only_some_requests_need(tmp_path):
    # A NetCDF needs HDF5, a question to a STAC API pystac-client, a tile morecantile, a colour map rio-tiler.
    without = {"h5py", "h5netcdf", "pystac_client", "requests", "jsonschema", "morecantile", "rio_tiler"}
    printed = _run(f"WITHOUT = {without!r}\n{_READY}", str(tmp_path))
    assert printed.splitlines()[-1] == "imported"
