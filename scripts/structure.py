"""Measures the structure of the Python packages, by their syntax alone: nothing is imported or run.

    python scripts/structure.py            # the figures, and what is over a limit
    python scripts/structure.py --check    # exit code 1 where something is over a limit

Modules in each folder, lengths of functions, methods in each class, share of annotated functions, and import
circles between modules.
"""

import argparse
import ast
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "client/src", ROOT / "server/src")

MOST_MODULES = 22
"""Modules in one folder."""
MOST_METHODS = 15
"""Methods of a class whose docstring gives no reason for more."""
REASON = "methods:"
"""What a docstring's line begins with that says why a class has more."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module."""

    name: str
    path: Path
    tree: ast.Module
    lines: int


@dataclass(slots=True, kw_only=True)
class Report:
    """What was measured."""

    figures: dict[str, float] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)
    """What is over a limit, a sentence each."""


def modules() -> list[Module]:
    """Return all modules of the packages."""
    found = []
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(name=name, path=path, tree=ast.parse(text), lines=text.count("\n")))
    return found


def functions(tree: ast.Module) -> Iterator[Function]:
    """Return the functions and methods of a module, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def is_annotated(function: Function) -> bool:
    """Tell whether every parameter (but self and cls) and the result is annotated."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    more = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
    free = [argument for argument in named if argument.arg not in {"self", "cls"}]
    return function.returns is not None and all(argument.annotation for argument in [*free, *more])


def length(function: Function) -> int:
    """Return the lines of a function without its decorators and its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def methods(cls: ast.ClassDef) -> int:
    """Return how many methods a class defines, without those that Python calls by itself."""
    names = {node.name for node in cls.body if isinstance(node, Function)}
    return sum(not (name.startswith("__") and name.endswith("__")) for name in names)


def imports(module: Module, names: set[str]) -> set[str]:
    """Return which of the modules a module imports when it is imported: not in functions, not for types."""
    found: set[str] = set()
    for node in _at_import(module.tree.body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in names else node.module)
    return (found & names) - {module.name}


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If):
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                yield from _at_import(node.body)
            yield from _at_import(node.orelse)
        elif isinstance(node, ast.Try):
            for part in (node.body, node.orelse, node.finalbody):
                yield from _at_import(part)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            start = stack.index(name)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def measure() -> Report:
    """Measure all packages."""
    every = modules()
    report = Report()
    _measure_folders(every, report)
    _measure_functions(every, report)
    _measure_classes(every, report)
    names = {module.name for module in every}
    groups = circles({module.name: imports(module, names) for module in every})
    report.figures["import circles"] = len(groups)
    report.over += [f"these modules import each other: {', '.join(group)}" for group in groups]
    return report


def _measure_folders(every: list[Module], report: Report) -> None:
    folders = Counter(
        module.path.parent.relative_to(ROOT) for module in every if module.path.name != "__init__.py"
    )
    report.figures["modules"] = len(every)
    report.figures["lines"] = sum(module.lines for module in every)
    report.figures["lines of a module, median"] = median(module.lines for module in every)
    report.figures["lines of a module, most"] = max(module.lines for module in every)
    report.figures["folders"] = len(folders)
    report.figures["modules of a folder, most"] = max(folders.values())
    report.over += [
        f"{folder} has {count} modules; the limit is {MOST_MODULES}"
        for folder, count in sorted(folders.items())
        if count > MOST_MODULES
    ]


def _measure_functions(every: list[Module], report: Report) -> None:
    found = [function for module in every for function in functions(module.tree)]
    lengths = [length(function) for function in found]
    report.figures["functions"] = len(found)
    report.figures["lines of a function, median"] = median(lengths)
    report.figures["lines of a function, most"] = max(lengths)
    share = sum(map(is_annotated, found)) / len(found)
    report.figures["annotated functions, percent"] = round(100 * share, 1)


def _measure_classes(every: list[Module], report: Report) -> None:
    found = [
        (module, node) for module in every for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)
    ]
    counts = [methods(node) for _, node in found]
    report.figures["classes"] = len(found)
    report.figures["methods of a class, median"] = median(counts)
    report.figures["methods of a class, most"] = max(counts)
    for (module, node), count in zip(found, counts, strict=True):
        reason = REASON in (ast.get_docstring(node) or "").lower()
        if count > MOST_METHODS and not reason:
            report.over.append(
                f"{module.name}.{node.name} has {count} methods; the limit is {MOST_METHODS}, or a line"
                f" of its docstring that begins with {REASON.capitalize()!r} and gives the reason"
            )


def main() -> int:
    """Print the figures; with ``--check``, fail where something is over a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit code 1 where something is over a limit")
    parser.add_argument("--json", action="store_true", help="as JSON")
    arguments = parser.parse_args()
    report = measure()
    if arguments.json:
        sys.stdout.write(json.dumps({"figures": report.figures, "over": report.over}, indent=1) + "\n")
    else:
        width = max(map(len, report.figures))
        for name, figure in report.figures.items():
            sys.stdout.write(f"{name:{width}}  {figure:g}\n")
        for sentence in report.over:
            sys.stdout.write(f"over: {sentence}\n")
    return 1 if arguments.check and report.over else 0


if __name__ == "__main__":
    sys.exit(main())
