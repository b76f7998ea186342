"""The site that `make site` builds of the documentation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def named(entries):
    """The pages that a part of the navigation names."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from named(value) if isinstance(value, list) else [value]


def test_the_navigation_names_each_page_once():
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    docs = ROOT / "docs"
    assert sorted(named(navigation)) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def build(folder):
    """Build the site of the documentation in this folder as `make site` does; (exit code, output)."""
    command = [Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_site_builds_asks_nobody_and_can_be_searched(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    code, output = build(tmp_path)
    assert code == 0, output
    front = (tmp_path / "site" / "index.html").read_text()
    assert "fonts.googleapis" not in front
    assert 'src="https:' not in front
    assert "arcticdem-32m" in json.dumps(json.loads((tmp_path / "site" / "search.json").read_text()))
    (tmp_path / "docs" / "index.md").write_text("# Icehouse\n\n[nothing](nowhere.md)\n")
    code, output = build(tmp_path)
    assert code != 0
    assert "page does not exist" in output
