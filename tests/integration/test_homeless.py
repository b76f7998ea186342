"""A user without a home folder, as a container with an arbitrary user id has: what is named is enough."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import httpx
import pytest

from icehouse_server.testing.daemon import DaemonProcess, environment
from support import CHILD_PATH

PLAN = """
import sys
import support.homeless
import icehouse
from odc.geo.geobox import GeoBox
with icehouse.Client(sys.argv[1], "arcticdem-32m") as client:
    print(client.plan(GeoBox.from_bbox((0, 0, 320, 320), crs="EPSG:3413", resolution=32)).chunks.needed)
"""


def run(folder, *words, **settings):
    """Run Python as a user that has no home folder: neither in the environment nor in /etc/passwd."""
    return subprocess.run(
        [sys.executable, *words],
        env=environment(settings, home=folder) | CHILD_PATH,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def command(folder, *words, **settings):
    return run(folder, "-m", "support.homeless", *words, **settings)


def test_named_folders_are_enough_for_daemon_and_client(tmp_path):
    settings = {"collections": "arcticdem-32m"}
    how = {"command": ("support.homeless", "serve"), "variables": CHILD_PATH, "home": tmp_path}
    with closing(DaemonProcess(cache=tmp_path / "cache", settings=settings, **how)) as daemon:
        daemon.start()
        assert httpx.get(f"{daemon.url}/readyz", timeout=30).status_code == 200
        ran = run(tmp_path, "-c", PLAN, daemon.url)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1\n", "")


@pytest.mark.parametrize(
    "words",
    [("config", "show"), ("collections", "show", "tctrend"), ("status", "--url", "http://127.0.0.1:9")],
)
def test_a_command_that_needs_no_folder_needs_no_home(tmp_path, words):
    ran = command(tmp_path, *words)
    assert "Traceback" not in ran.stderr
    assert "home" not in ran.stderr
    assert ran.returncode == (words[0] == "status")


@pytest.mark.parametrize(
    ("words", "settings", "named"),
    [
        (("serve", "--port", "0"), {}, "cache_dir: ~/.cache/icehouse lies in the home folder"),
        (
            ("serve", "--port", "0", "--cache-dir", "c"),
            {"token_file": "~/t"},
            "token_file: ~/t lies in the home",
        ),
        (
            ("serve", "--port", "0", "--cache-dir", "c"),
            {"collections_dir": "~/x"},
            "collections_dir: ~/x lies",
        ),
        (
            (
                "collections",
                "add",
                "sentinel-2-l2a-monthly",
                "--crs=EPSG:32633",
                "--bbox=13,52,14,53",
                "--resolution=10",
            ),
            {},
            "set collections_dir (ICEHOUSE_COLLECTIONS_DIR)",
        ),
    ],
)
def test_what_a_home_would_be_needed_for_is_named(tmp_path, words, settings, named):
    ran = command(tmp_path, *words, **settings)
    assert ran.returncode == 1
    assert ran.stderr.startswith("icehouse: ")
    assert named in ran.stderr
