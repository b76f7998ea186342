"""The time axis that a few dates suggest."""

from collections.abc import Sequence
from datetime import datetime, timedelta

_FORMS = {"yearly": "%Y", "monthly": "%Y-%m", "daily": "%Y-%m-%d", "hourly": "%Y-%m-%dT%H:%M:%SZ"}
"""How the start of a step is written, by period, the longest first."""

_LONGEST_MONTH = 32


def axis_table(dates: Sequence[datetime]) -> dict[str, object] | None:
    """Return ``[time]`` of the longest period of which no step holds two of some dates; None where none does.

    Args:
        dates: aware, in UTC, ascending, all different.
    """
    for period, form in _FORMS.items():
        if len({_floor(date, period) for date in dates}) == len(dates):
            end = _after(dates[-1], period)
            return {
                "start": _floor(dates[0], period).strftime(form),
                "period": period,
                "end": end.strftime(form),
            }
    return None


def _floor(date: datetime, period: str) -> datetime:
    hour = date.replace(minute=0, second=0, microsecond=0)
    match period:
        case "yearly":
            return hour.replace(month=1, day=1, hour=0)
        case "monthly":
            return hour.replace(day=1, hour=0)
        case "daily":
            return hour.replace(hour=0)
        case _:
            return hour


def _after(date: datetime, period: str) -> datetime:
    """Return the end of the step that holds a date."""
    start = _floor(date, period)
    match period:
        case "yearly":
            return start.replace(year=start.year + 1)
        case "monthly":
            return (start + timedelta(days=_LONGEST_MONTH)).replace(day=1)
        case "daily":
            return start + timedelta(days=1)
        case _:
            return start + timedelta(hours=1)
