"""Numbers and verdicts: what a scenario returns."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured quantity."""

    name: str
    values: tuple[float, ...]
    unit: str = "ms"

    @classmethod
    def of_seconds(cls, name: str, seconds: Iterable[float]) -> Figure:
        return cls(name=name, values=tuple(value * 1000 for value in seconds))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        text = f"{self.name} {number(self.median)} {self.unit}"
        if len(self.values) == 1:
            return text
        return f"{text} ({number(min(self.values))} to {number(max(self.values))}, n = {len(self.values)})"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "n": len(self.values),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One target: a measured ratio or size against its bound."""

    target: str
    """In words, as the table of the design has it."""
    value: float
    bound: float
    at_least: bool = False
    """True where the value must not be below the bound; otherwise it must not be above."""
    unit: str = "x"

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "MISSED"
        return f"{verdict}: {number(self.value)} {self.unit} ({self.target})"

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "value": self.value,
            "bound": self.bound,
            "at_least": self.at_least,
            "unit": self.unit,
            "reached": self.reached,
        }


def faster(target: str, ours: Figure, other: Figure, times: float) -> Check:
    """Ours must be `times` as fast as the other, by medians."""
    return Check(target=target, value=other.median / ours.median, bound=times, at_least=True)


def within(target: str, ours: Figure, other: Figure, times: float) -> Check:
    """Ours must take at most `times` as long (or as much) as the other, by medians."""
    return Check(target=target, value=ours.median / other.median, bound=times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the table."""

    what: str
    figures: Sequence[Figure]
    checks: Sequence[Check] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "figures": [figure.to_json() for figure in self.figures],
            "checks": [check.to_json() for check in self.checks],
            "notes": list(self.notes),
        }


def number(value: float) -> str:
    """Three digits that count: 0.123, 1.23, 12.3, 123, 1234."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
