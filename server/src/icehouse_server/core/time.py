"""The time axis of a collection: steps, each of them an interval, by a list or by a period."""

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from icehouse_server.core.errors import UnknownTimeError

MAX_STEPS = 1_000_000
"""Steps of one axis at most: hourly for a century."""

PERIODS = {"yearly": "P1Y", "monthly": "P1M", "weekly": "P7D", "daily": "P1D", "hourly": "PT1H"}
"""Words for the usual periods, and what they are in ISO 8601."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SAFE_DAY = 28
"""Last day that every month has: months and years are counted from no later one."""

_DURATION = re.compile(
    r"P(?=.)(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,5})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,6})M)?(?:(?P<seconds>\d{1,8})S)?)?",
    re.ASCII,
)

MOMENT = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[Tt ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>[0-5]\d|60)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?)?)?)?",
    re.ASCII,
)

_TICK = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)
_MAX_DELAY = timedelta(days=36_525)
"""A century: what is subtracted from now stays within the calendar."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TimeStep:
    """One step of a time axis: from ``start`` up to, and without, ``end``; both aware, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"a step begins before it ends, not {self}")

    def __str__(self) -> str:
        return f"{written(self.start)}/{written(self.end)}"

    @property
    def seconds(self) -> tuple[int, int]:
        """Start and end in seconds since 1970-01-01T00:00:00Z."""
        return round((self.start - _EPOCH).total_seconds()), round((self.end - _EPOCH).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A length of time by the calendar: months, and days of 24 hours."""

    months: int = 0
    rest: timedelta = timedelta(0)

    def __str__(self) -> str:
        """The period as ISO 8601 has it."""
        years, months = divmod(self.months, 12)
        hours, seconds = divmod(self.rest.seconds, 3600)
        minutes, seconds = divmod(seconds, 60)
        date = "".join(f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (self.rest.days, "D")) if n)
        time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n)
        return f"P{date}{'T' if time else ''}{time}"

    @classmethod
    def parse(cls, text: str) -> "Period":
        """Read an ISO 8601 duration such as P1Y, P16D or PT6H, or a word of ``PERIODS``.

        Raises:
            ValueError: it is none, or of zero length.
        """
        found = _DURATION.fullmatch(PERIODS.get(text, text))
        if found is None:
            raise ValueError(
                f"{text[:40]!r} is not a period; write one of {', '.join(PERIODS)}, or an ISO 8601 duration "
                "such as P16D"
            )
        number = {name: int(value or 0) for name, value in found.groupdict().items()}
        months = 12 * number.pop("years") + number.pop("months")
        period = cls(months=months, rest=timedelta(**number))
        if not period.months and not period.rest:
            raise ValueError(f"{text[:40]!r} is a period of zero length")
        return period

    def after(self, start: datetime, times: int) -> datetime:
        """Return the moment that lies N periods after another.

        Raises:
            OverflowError: it lies beyond the year 9999.
        """
        months = start.year * 12 + start.month - 1 + self.months * times
        if months >= 12 * 10_000:
            raise OverflowError("beyond the year 9999")
        return start.replace(year=months // 12, month=months % 12 + 1) + self.rest * times


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """A stretch of time that a caller asks for; both ends belong to it. None is an open end."""

    start: datetime | None
    end: datetime | None

    def __str__(self) -> str:
        if self.start is not None and self.start == self.end:
            return written(self.start)
        return "/".join(".." if end is None else written(end) for end in (self.start, self.end))

    @classmethod
    def parse(cls, text: str) -> "TimeRange":
        """Read an instant or an interval as OGC API, STAC and RFC 3339 write them.

        ``2020``, ``2020-06`` and ``2020-06-01`` stand for the whole year, month or day, as in pystac-client;
        a time without a zone is UTC; an end of an interval may be ``..`` or empty, but not
        both.

        Raises:
            ValueError: it is none of these, or it ends before it begins.
        """
        ends = text.strip().split("/")
        if len(ends) == 1:
            return cls(start=_stretch(ends[0])[0], end=_stretch(ends[0])[1])
        if len(ends) > 2:  # noqa: PLR2004 - an interval has two ends
            raise ValueError(f"{text[:80]!r} has more than one slash")
        if "" in ends and {*ends} <= {"", ".."}:
            raise ValueError(f"{text[:80]!r} has neither a start nor an end; all time is '../..'")
        first, last = (None if end in {"", ".."} else _stretch(end) for end in ends)
        found = cls(start=None if first is None else first[0], end=None if last is None else last[1])
        if found.start is not None and found.end is not None and found.start > found.end:
            raise ValueError(f"{text[:80]!r} ends before it begins")
        return found


def written(moment: datetime) -> str:
    """Return a moment as RFC 3339 has it, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_moment(text: str) -> datetime:
    """Read a moment; of a year, a month or a day alone, its first.

    Raises:
        ValueError: it is none.
    """
    return _stretch(text)[0]


def _stretch(text: str) -> tuple[datetime, datetime]:
    """Return the first and the last microsecond that a text stands for."""
    found = MOMENT.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text[:80]!r} is not a time; write 2020, 2020-06, 2020-06-01 or 2020-06-01T12:00:00Z, "
            "or two of them with a slash between"
        )
    part = found.groupdict()
    number = {name: int(part[name]) for name in ("year", "month", "day", "hour", "minute") if part[name]}
    try:
        start = datetime(**{"month": 1, "day": 1, **number}, tzinfo=UTC)
        start += timedelta(seconds=int(part["second"] or 0))
        start += timedelta(microseconds=int((part["fraction"] or "")[:6].ljust(6, "0")))
        start -= _zone(part["zone"])
        if "hour" in number:
            return start, start
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:80]!r} is not a time: {error}") from None
    length = (
        Period(rest=timedelta(days=1)) if "day" in number else Period(months=1 if "month" in number else 12)
    )
    try:
        return start, length.after(start, 1) - _TICK
    except OverflowError:
        return start, _LAST


def _zone(text: str | None) -> timedelta:
    if text is None or text in {"Z", "z"}:
        return timedelta(0)
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return -offset if text[0] == "-" else offset


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAxis:
    """The steps of a collection, in the order of time; a step never changes its number.

    Either every step is listed, or they follow from ``start`` and ``period``. Without an ``end`` the axis
    rolls: a step is there once it has passed, and ``delay`` after that.
    """

    listed: tuple[TimeStep, ...] = ()
    start: datetime | None = None
    period: Period | None = None
    end: datetime | None = None
    delay: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if bool(self.listed) == (self.start is not None and self.period is not None):
            raise ValueError("a time axis has either steps, or start and period")
        for before, after in zip(self.listed, self.listed[1:], strict=False):
            if before.end > after.start:
                raise ValueError(f"the steps {before} and {after} overlap, or are not in order")
        edges = [edge for step in self.listed for edge in (step.start, step.end)] + [self.start, self.end]
        if any(edge is not None and edge.microsecond for edge in edges):
            raise ValueError("a step begins and ends at a whole second")
        if not timedelta(0) <= self.delay <= _MAX_DELAY:
            raise ValueError(f"delay is at most {_MAX_DELAY.days} days")
        if self.start is None or self.period is None:
            return
        if self.period.months and self.start.day > _LAST_SAFE_DAY:
            raise ValueError("months and years are counted from a day that every month has, 1 to 28")
        if self.end is not None and self.count(self.end) == 0:
            raise ValueError("not a single step fits between start and end")

    @property
    def rolling(self) -> bool:
        """True where new steps appear as time passes."""
        return not self.listed and self.end is None

    def count(self, now: datetime) -> int:
        """Return how many steps there are at a moment."""
        if self.listed:
            return len(self.listed)
        limit = now - self.delay if self.end is None else self.end
        return bisect_right(range(1, MAX_STEPS + 1), limit, key=self._edge)

    def step(self, number: int) -> TimeStep:
        """Return a step by its number, from 0."""
        if self.listed:
            return self.listed[number]
        return TimeStep(start=self._edge(number), end=self._edge(number + 1))

    def steps(self, count: int) -> tuple[TimeStep, ...]:
        """Return the first steps."""
        return tuple(self.step(number) for number in range(count))

    def select(self, ranges: Iterable[TimeRange], now: datetime) -> tuple[int, ...]:
        """Return the numbers of the steps that any of the ranges touches, in the order of time.

        Nothing is snapped: a range has to touch a step.

        Raises:
            UnknownTimeError: a range touches none; names the nearest steps.
        """
        count = self.count(now)
        found: set[int] = set()
        for asked in ranges:
            # Steps are in order: those that end after the range begins, and begin before it ends.
            first = 0 if asked.start is None else bisect_right(range(count), asked.start, key=self._ends)
            stop = count if asked.end is None else bisect_right(range(count), asked.end, key=self._begins)
            if first >= stop:
                raise self._unknown(asked, first, count)
            found.update(range(first, stop))
        return tuple(sorted(found))

    def _unknown(self, asked: TimeRange, after: int, count: int) -> UnknownTimeError:
        near = [self.step(number) for number in (after - 1, after) if 0 <= number < count]
        hint = "there is no step yet"
        if near:
            hint = f"the nearest steps are {' and '.join(map(str, near))}; there are {count}"
        return UnknownTimeError(f"no step of the time axis holds {asked}", hint=hint)

    def _edge(self, number: int) -> datetime:
        """Return where a step begins, by its number; beyond the calendar, its end."""
        if self.start is None or self.period is None:
            raise ValueError("a list of steps has no period")
        try:
            return self.period.after(self.start, number)
        except (OverflowError, ValueError):
            return _LAST

    def _begins(self, number: int) -> datetime:
        return self.step(number).start

    def _ends(self, number: int) -> datetime:
        return self.step(number).end
