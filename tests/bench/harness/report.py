"""Rows as text, as JSON and as the table of the documentation."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.measure import Result

_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"
_PACKAGES = ("icechunk", "zarr", "numpy", "xarray", "rasterio", "async-geotiff", "odc-stac", "uvicorn")
_BENCH = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and when a run was."""

    date: str
    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    load_before: float
    load_after: float | None = None

    @classmethod
    def look(cls) -> Machine:
        return cls(
            date=dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)),
            memory_gb=round(psutil.virtual_memory().total / 2**30),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            versions={name: version(name) for name in _PACKAGES} | _pinned(),
            load_before=os.getloadavg()[0],
        )

    def finished(self) -> Machine:
        return replace(self, load_after=os.getloadavg()[0])

    def text(self) -> str:
        after = "" if self.load_after is None else f", {self.load_after:.1f} after"
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.date}. {self.cores} cores of {self.processor}, {self.memory_gb:.0f} GB, {self.system}; "
            f"Python {self.python}; {packages}. Load average {self.load_before:.1f} before{after}."
        )


def _processor() -> str:
    match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return match[1].strip() if match else platform.machine()


def _pinned() -> dict[str, str]:
    """The versions of the other tools, by their requirements."""
    found: dict[str, str] = {}
    for name, package in (("smart-geocubes", "smart-geocubes"), ("titiler", "titiler-core")):
        text = (_BENCH / f"requirements-{name}.txt").read_text()
        match = re.search(rf"^{package}==(\S+)$", text, re.MULTILINE)
        found[package] = match[1] if match else "?"
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one scenario."""

    name: str
    results: Sequence[Result]
    failure: str | None
    seconds: float


def as_text(row: Row) -> str:
    lines: list[str] = []
    for result in row.results:
        lines.append(f"  {result.what}")
        lines += [f"    {figure}" for figure in result.figures]
        lines += [f"    {check}" for check in result.checks]
        lines += [f"    ({note})" for note in result.notes]
    if row.failure:
        lines.append(f"  FAILED: {row.failure}")
    return "\n".join([*lines, f"  [{row.seconds:.0f} s]"])


def as_json(machine: Machine, rows: Sequence[Row]) -> dict[str, Any]:
    scenarios = [
        {
            "name": row.name,
            "results": [result.to_json() for result in row.results],
            "failure": row.failure,
            "seconds": row.seconds,
        }
        for row in rows
    ]
    return {"machine": asdict(machine), "scenarios": scenarios}


def write_markdown(page: Path, machine: Machine, rows: Sequence[Row]) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: it has no markers.
    """
    text = page.read_text(encoding="utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{page} needs the lines {_BEGIN} and {_END}")
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    table = "\n".join([machine.text(), "", *_table(rows)])
    page.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}", encoding="utf-8")


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| what | measured | target |", "|---|---|---|"]
    for row in rows:
        if row.failure:
            lines.append(f"| `{row.name}` | the scenario failed: {_cell(row.failure)} | **not measured** |")
        lines += [_line(result) for result in row.results]
    return lines


def _line(result: Result) -> str:
    measured = "<br>".join(str(figure) for figure in result.figures) or "-"
    checks = [
        f"{check}" if check.reached else str(check).replace("MISSED", "**missed**") for check in result.checks
    ]
    return f"| {_cell(result.what)} | {_cell(measured)} | {_cell('<br>'.join([*checks, *result.notes]))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
