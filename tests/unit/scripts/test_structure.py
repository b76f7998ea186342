"""The measurement of the structure, on small trees."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "structure.py"


@pytest.fixture(scope="module")
def structure():
    spec = importlib.util.spec_from_file_location("structure", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "structure", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
    return module


def module_of(structure, name, text):
    return structure.Module(name=name, path=Path(f"{name}.py"), tree=ast.parse(text), lines=0)


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": {"d"}}, [["a", "b", "c"], ["d", "e"]]),
    ],
)
def test_circles(structure, graph, found):
    assert sorted(structure.circles(graph)) == found


def test_imports_for_types_or_in_functions_do_not_count(structure):
    text = """
from typing import TYPE_CHECKING
import one
from two import thing
from package import three
if TYPE_CHECKING:
    import four
def later():
    import five
"""
    names = {"one", "two", "package", "package.three", "four", "five"}
    assert structure.imports(module_of(structure, "m", text), names) == {"one", "two", "package.three"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a: int, *b: int, **c: int) -> None: ...", True),
        ("def f(self, a: int) -> None: ...", True),
        ("def f(a) -> None: ...", False),
        ("def f(a: int, **c) -> None: ...", False),
        ("def f(a: int): ...", False),
    ],
)
def test_annotated(structure, text, expected):
    assert structure.is_annotated(ast.parse(text).body[0]) == expected


def test_docstrings_and_decorators_are_not_code(structure):
    text = '@decorated\ndef f():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    assert structure.length(ast.parse(text).body[0]) == 2


def test_methods_that_python_calls_do_not_count(structure):
    text = "class A:\n    def __init__(self): ...\n    def a(self): ...\n    async def b(self): ...\n"
    assert structure.methods(ast.parse(text).body[0]) == 2


def test_the_packages_keep_the_limits_of_folders_and_circles(structure):
    report = structure.measure()
    assert report.figures["modules"] > 200, "it looks at the packages"
    assert report.figures["import circles"] == 0
    assert report.figures["modules of a folder, most"] <= structure.MOST_MODULES
