"""Streams that can't be written: the daemon serves all the same, a command ends with a sentence."""

from __future__ import annotations

import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from icehouse_server.store import FolderLock
from icehouse_server.testing.waiting import until

ICEHOUSE = f"{shlex.quote(sys.executable)} -m icehouse_server"


def shell(launcher, line, **settings):
    """Run a line of the shell; `icehouse` is our command. Whether it fails is up to its last command."""
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", line.replace("icehouse ", f"{ICEHOUSE} ", 1)],
        env=launcher.environment(**settings),
        cwd=launcher.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def served(launcher, cache, streams):
    """A daemon that a line of the shell starts with such streams, and its URL; SIGTERM ends it."""
    line = f"exec {ICEHOUSE} serve --port 0 --cache-dir {shlex.quote(str(cache))} {streams}"
    process = subprocess.Popen(
        ["/bin/bash", "-c", line],
        env=launcher.environment(collections="arcticdem-32m"),
        cwd=launcher.folder,
        stdout=subprocess.DEVNULL,
    )

    def url():
        assert process.poll() is None, "the daemon ended"
        return FolderLock.owner(cache).get("url")

    try:
        yield process, until(url, 60)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("streams", [">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_the_daemon_serves_whatever_its_streams(launcher, tmp_path, streams):
    with served(launcher, tmp_path / "cache", streams) as (process, url):
        assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200
        for number in (0, 1, 2):  # none of them is a file of the cache, or a socket
            target = str(Path(f"/proc/{process.pid}/fd/{number}").readlink())
            assert "cache" not in target
            assert "socket" not in target


def test_the_daemon_outlives_the_reader_of_its_line(launcher, tmp_path):
    with served(launcher, tmp_path / "cache", "> >(exec true)") as (_, url):
        assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200


COMMANDS = ("--help", "config show", "collections show arcticdem-32m", "jobs --json", "status")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_stdout_is_a_sentence(launcher, shared, command):
    ended = shell(launcher, f"ICEHOUSE_URL={shared.url} icehouse {command} >/dev/full")
    assert (ended.returncode, ended.stderr) == (
        1,
        "icehouse: stdout can't be written: No space left on device\n",
    )


@pytest.mark.parametrize("command", ["config show", "jobs --json"])
@pytest.mark.parametrize(
    ("streams", "why"), [(">&-", "it is closed"), ("> >(exec true)", "its reader has gone")]
)
def test_a_closed_stdout_is_a_sentence(launcher, shared, command, streams, why):
    ended = shell(launcher, f"ICEHOUSE_URL={shared.url} icehouse {command} {streams}")
    assert (ended.returncode, ended.stderr) == (1, f"icehouse: stdout can't be written: {why}\n")


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("command", "status"),
    [("status --url http://127.0.0.1:9", 1), ("nonsense", 2), ("config show --json", 0)],
)
def test_the_exit_status_outlives_stderr(launcher, command, status, streams):
    ended = shell(launcher, f"icehouse {command} {streams}")
    assert (ended.returncode, ended.stderr) == (status, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_ascii_stdout_takes_every_answer(launcher, shared, command):
    ended = shell(launcher, f"PYTHONIOENCODING=ascii ICEHOUSE_URL={shared.url} icehouse {command}")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_collection_file_is_shown_in_utf_8_everywhere(launcher):
    shown = shell(
        launcher, "PYTHONIOENCODING=latin-1 icehouse collections show arcticdem-32m | iconv -f utf-8 -t utf-8"
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "°" in shown.stdout


def test_a_file_that_can_not_be_written_is_a_sentence(launcher, shared):
    ended = shell(
        launcher,
        f"ICEHOUSE_URL={shared.url} icehouse load arcticdem-32m missing/x.tif --bbox-crs EPSG:3413"
        " --bbox=-745000,2645000,-744000,2646000",
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("icehouse: missing/x.tif")
