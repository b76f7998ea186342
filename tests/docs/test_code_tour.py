"""The code tour leads to files that exist, and to names that they define."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| .* \| (.*) \|$", re.MULTILINE)
_STEP = re.compile(r"`([\w./-]+)`(?: \(`([\w.]+)`\))?")


def steps(text):
    """(path, name in it or "") of every row of the tables."""
    for cell in _ROW.findall(text):
        yield from _STEP.findall(cell)


def definitions(path):
    """Names of the functions and classes of a module, methods as `Class.method`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{inner.name}"


def test_every_path_and_name_of_the_tour_exists(page_of):
    found = list(steps(page_of("docs/explanation/code-tour.md").text))
    assert len(found) > 40
    for path, name in found:
        assert (ROOT / path).exists(), path
        assert not name or name in set(definitions(ROOT / path)), f"{path}: {name}"
