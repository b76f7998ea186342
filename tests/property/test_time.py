"""The time axis against a naive model: every step written out, every range held against every step."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import assume, given
from hypothesis import strategies as st

from icehouse_server.core.errors import UnknownTimeError
from icehouse_server.core.time import Period, TimeAxis, TimeRange, TimeStep, parse_moment, written

SECOND = timedelta(seconds=1)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(  # noqa: DTZ001 - made aware here
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
PERIODS = st.builds(
    Period, months=st.integers(0, 30), rest=st.timedeltas(timedelta(0), timedelta(days=400)).map(
        lambda length: timedelta(days=length.days, seconds=length.seconds)
    ),
).filter(lambda period: period.months or period.rest > timedelta(hours=12))  # fmt: skip


@st.composite
def listed(draw):
    edges = sorted(draw(st.lists(MOMENTS, min_size=2, max_size=12, unique=True)))
    pairs = list(itertools.pairwise(edges))
    kept = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    steps = tuple(TimeStep(start=a, end=b) for (a, b), keep in zip(pairs, kept, strict=True) if keep)
    assume(steps)
    return TimeAxis(listed=steps)


@st.composite
def periodic(draw):
    start = draw(MOMENTS.map(lambda moment: moment.replace(day=min(moment.day, 28))))
    period = draw(PERIODS)
    if draw(st.booleans()):
        return TimeAxis(
            start=start, period=period, delay=draw(st.timedeltas(timedelta(0), timedelta(days=90)))
        )
    end = start + draw(st.timedeltas(timedelta(days=1), timedelta(days=4000)))
    end = end.replace(microsecond=0)
    assume(period.after(start, 1) <= end)
    return TimeAxis(start=start, period=period, end=end)


AXES = listed() | periodic()
ENDS = st.none() | MOMENTS
RANGES = st.builds(TimeRange, start=ENDS, end=ENDS).filter(
    lambda asked: asked.start is None or asked.end is None or asked.start <= asked.end
)


def model(axis, now):
    """All steps, one after the other."""
    if axis.listed:
        return list(axis.listed)
    limit = now - axis.delay if axis.end is None else axis.end
    found = []
    while (end := axis.period.after(axis.start, len(found) + 1)) <= limit:
        found.append(TimeStep(start=axis.period.after(axis.start, len(found)), end=end))
    return found


def touches(step, asked):
    return (asked.start is None or asked.start < step.end) and (asked.end is None or step.start <= asked.end)


@given(AXES, MOMENTS)
def test_steps_are_those_of_the_model(axis, now):
    steps = model(axis, now)
    assert axis.count(now) == len(steps)
    assert list(axis.steps(axis.count(now))) == steps
    for before, after in itertools.pairwise(steps):
        assert before.end <= after.start
        assert before.seconds[1] <= after.seconds[0]


@given(AXES, st.lists(RANGES, min_size=1, max_size=3), MOMENTS)
def test_a_selection_is_what_the_model_touches(axis, asked, now):
    steps = model(axis, now)
    wanted = [[n for n, step in enumerate(steps) if touches(step, one)] for one in asked]
    try:
        found = axis.select(asked, now)
    except UnknownTimeError as caught:
        error = caught
    else:
        assert all(wanted)
        assert list(found) == sorted({number for numbers in wanted for number in numbers})
        return
    lost = next(one for one, numbers in zip(asked, wanted, strict=True) if not numbers)
    assert str(lost) in error.detail
    before = [step for step in steps if lost.start is not None and step.end <= lost.start]
    after = [step for step in steps if lost.end is not None and step.start > lost.end]
    near = [*before[-1:], *after[:1]]
    assert [str(step) for step in near] == [str(step) for step in near if str(step) in error.hint]
    assert error.hint.count("Z/") == len(near)


@given(MOMENTS, MOMENTS)
def test_a_step_never_changes_its_number_when_time_passes(one, other):
    axis = TimeAxis(start=datetime(1995, 1, 1, tzinfo=UTC), period=Period(months=3))
    first, last = sorted([one, other])
    few, many = axis.steps(axis.count(first)), axis.steps(axis.count(last))
    assert many[: len(few)] == few


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES | st.just(UTC)).filter(lambda moment: 1 < moment.year < 9999))
def test_a_moment_is_read_as_it_is_written(moment):
    assert parse_moment(moment.isoformat()) == moment
    assert parse_moment(written(moment)) == moment


@given(st.dates().filter(lambda day: day.year < 9999))
def test_a_date_stands_for_all_of_it(day):
    for text, length in (
        (f"{day:%Y-%m-%d}".zfill(10), 1),
        (f"{day.year:04}-{day.month:02}", 28),
        (f"{day.year:04}", 365),
    ):
        found = TimeRange.parse(text)
        assert found.end - found.start >= timedelta(days=length) - timedelta(microseconds=1)
        assert written(found.start).startswith(text[:4])
        after = found.end + timedelta(microseconds=1)
        assert after == parse_moment(written(after)[:10])  # the first moment of a day


@given(st.text("0123456789-:TZ./+ ", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_range_or_a_ValueError(text):  # noqa: N802
    try:
        found = TimeRange.parse(text)
    except ValueError as caught:
        error = caught
    else:
        assert found.start is None or found.end is None or found.start <= found.end
        return
    assert len(str(error)) < 300


@given(st.text("PT0123456789YMWDHS", max_size=14) | st.text(max_size=10))
def test_any_text_is_a_period_or_a_ValueError(text):  # noqa: N802
    try:
        found = Period.parse(text)
    except ValueError:
        return
    assert found.months or found.rest
