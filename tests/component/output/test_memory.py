"""What encoders take is no more than they say, so that the budget of answers is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from icehouse_server.output import FORMATS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLACK = 2 * 1024**2
"""Bytes of code and tables that are loaded at first use."""


@pytest.fixture(scope="module")
def peaks():
    environment = {**os.environ, "GDAL_CACHEMAX": "64", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "support.peak"], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"json"}))
def test_no_encoder_takes_more_than_it_says(peaks, name):
    found = {case: figures for case, figures in peaks.items() if case.startswith(f"{name} ")}
    assert found
    assert not {case: figures for case, figures in found.items() if figures[0] > figures[1] + SLACK}


@pytest.mark.parametrize("name", ["geotiff", "netcdf"])
def test_files_on_disk_take_a_part_of_the_memory(peaks, name):
    """Which is what they are for."""
    planned = [peaks[f"{name} three 2000 {place}"][1] for place in ("memory", "disk")]
    assert planned[1] < planned[0] / 2
