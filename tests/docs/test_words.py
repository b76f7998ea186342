"""Phrases that make a reader stop are in no sentence of the project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENDINGS = {".md", ".py", ".toml", ".ts", ".html", ".css", ".yaml", ".sh"}
FOLDERS = ("client", "server", "tests", "docs", "docker", "scripts")
PASSED_OVER = {"node_modules", "__pycache__", "page-dist"}
PHRASES = [
    r"(?<![Hh]ere )\b[Ii]s no (?!longer|more|less|matter|such)",
    r"\b([Nn]o|[Ss]ome)body\b",
    r"\btold\b",
    r"\bbeside\b",
    r"\bstands? in\b",
    r"\bbelieve",
    r"\bso many\b",
    r"\bwhy so\b",
    r"\bthe bars\b",
    r"\babsurdly\b",
    r"\bpeers?\b",
    r"\bhomeward\b",
    r"\bmade a mistake\b",
    r"icehouse_(chunks_left_alone|places_taken)",
]


def texts():
    for path in [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]:
        inner = set(path.relative_to(ROOT).parts)
        built = path.is_relative_to(ROOT / "server/src/icehouse_server/page")
        if path.suffix in ENDINGS and path.is_file() and not inner & PASSED_OVER and not built:
            yield path


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrases_that_no_sentence_has(phrase):
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts()
        if path.name not in {"CHANGELOG.md", Path(__file__).name}
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(phrase, line)
    ]
    assert not found
