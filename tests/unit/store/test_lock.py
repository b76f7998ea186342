"""The cache folder's lock, against real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from icehouse_server.core.errors import CacheFolderLockedError
from icehouse_server.store import FolderLock

HOLDER = """
import sys, time, pathlib
from icehouse_server.store.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]))
lock.acquire()
lock.note(url="http://127.0.0.1:4326")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_daemon_is_refused_until_the_first_is_gone(tmp_path, holder):
    lock = FolderLock(tmp_path)
    with pytest.raises(CacheFolderLockedError) as caught:
        lock.acquire()
    assert str(holder.pid) in caught.value.detail
    assert "http://127.0.0.1:4326" in caught.value.detail
    assert f"kill {holder.pid}" in caught.value.hint
    assert FolderLock.owner(tmp_path)["pid"] == holder.pid, "the refused one leaves the note alone"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock.acquire()
    assert FolderLock.owner(tmp_path) == {"pid": os.getpid(), "url": None}
    lock.release()


def test_a_lock_is_refused_within_one_process_too(tmp_path):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(CacheFolderLockedError):
        second.acquire()
    second.release()
    with pytest.raises(CacheFolderLockedError):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_the_folder_is_made_and_the_note_goes_with_the_lock(tmp_path):
    folder = tmp_path / "deep" / "down"
    lock = FolderLock(folder)
    lock.acquire()
    lock.note(url="http://127.0.0.1:1")
    assert json.loads((folder / "daemon.json").read_text())["url"] == "http://127.0.0.1:1"
    lock.release()
    assert FolderLock.owner(folder) == {}


@pytest.mark.parametrize("note", ["", "{", "[1]", "null", "\x00\xff"])
def test_a_note_that_says_nothing_does_not_hide_the_refusal(tmp_path, note):
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    (tmp_path / "daemon.json").write_text(note, encoding="latin-1")
    with pytest.raises(CacheFolderLockedError, match="unknown"):
        second.acquire()
    first.release()
