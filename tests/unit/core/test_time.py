"""The time axis: periods, moments, ranges, and which steps a range touches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from icehouse_server.core.errors import UnknownTimeError
from icehouse_server.core.time import Period, TimeAxis, TimeRange, TimeStep, parse_moment, written

NOW = datetime(2026, 6, 15, tzinfo=UTC)


def at(*numbers):
    return datetime(*numbers, tzinfo=UTC)


def step(start, end):
    return TimeStep(start=parse_moment(start), end=parse_moment(end))


YEARS = TimeAxis(start=at(2017, 1, 1), period=Period.parse("yearly"), end=at(2024, 1, 1))
ROLLING = TimeAxis(start=at(2020, 1, 1), period=Period.parse("P1M"), delay=timedelta(days=10))
LISTED = TimeAxis(listed=(step("2019", "2020"), step("2022-03", "2022-05"), step("2022-05", "2022-06")))


@pytest.mark.parametrize(
    ("text", "months", "rest"),
    [
        ("P1Y", 12, timedelta(0)),
        ("P1Y2M", 14, timedelta(0)),
        ("P16D", 0, timedelta(days=16)),
        ("P2W", 0, timedelta(days=14)),
        ("PT6H", 0, timedelta(hours=6)),
        ("P1DT12H30M5S", 0, timedelta(days=1, hours=12, minutes=30, seconds=5)),
        ("P1M", 1, timedelta(0)),
        ("PT1M", 0, timedelta(minutes=1)),
        ("yearly", 12, timedelta(0)),
        ("weekly", 0, timedelta(days=7)),
        ("hourly", 0, timedelta(hours=1)),
    ],
)
def test_periods(text, months, rest):
    assert Period.parse(text) == Period(months=months, rest=rest)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "1D", "P-1D", "P1.5D", "p1d", "P1D ", "fortnightly", "P1D1Y"]
)
def test_what_is_no_period_is_answered_with_what_would_be_one(text):
    with pytest.raises(ValueError, match=r"monthly.*P16D"):
        Period.parse(text)


@pytest.mark.parametrize("text", ["P0D", "PT0S", "P0Y0M"])
def test_a_period_takes_time(text):
    with pytest.raises(ValueError, match="zero length"):
        Period.parse(text)


def test_months_are_counted_by_the_calendar():
    month = Period.parse("P1M")
    assert month.after(at(2020, 1, 28), 1) == at(2020, 2, 28)
    assert month.after(at(2020, 12, 1), 1) == at(2021, 1, 1)
    assert Period.parse("P1M1D").after(at(2020, 1, 1), 2) == at(2020, 3, 3)
    with pytest.raises(OverflowError):
        month.after(at(2020, 1, 1), 12 * 8000)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2020", at(2020, 1, 1), at(2020, 12, 31, 23, 59, 59, 999999)),
        ("2020-02", at(2020, 2, 1), at(2020, 2, 29, 23, 59, 59, 999999)),
        ("2020-06-01", at(2020, 6, 1), at(2020, 6, 1, 23, 59, 59, 999999)),
        ("2020-06-01T12:00:00Z", at(2020, 6, 1, 12), at(2020, 6, 1, 12)),
        ("2020-06-01t12:00:00z", at(2020, 6, 1, 12), at(2020, 6, 1, 12)),
        ("2020-06-01T12:00", at(2020, 6, 1, 12), at(2020, 6, 1, 12)),
        ("2020-06-01 00:00:00", at(2020, 6, 1), at(2020, 6, 1)),
        ("2020-06-01T12:00:00.5Z", at(2020, 6, 1, 12, 0, 0, 500000), at(2020, 6, 1, 12, 0, 0, 500000)),
        ("2020-06-01T00:00:00+02:30", at(2020, 5, 31, 21, 30), at(2020, 5, 31, 21, 30)),
        ("2020-06-01T23:00:00-02:00", at(2020, 6, 2, 1), at(2020, 6, 2, 1)),
        ("2016-12-31T23:59:60Z", at(2017, 1, 1), at(2017, 1, 1)),
        ("2019/2020-06", at(2019, 1, 1), at(2020, 6, 30, 23, 59, 59, 999999)),
        ("2019/..", at(2019, 1, 1), None),
        ("../2019", None, at(2019, 12, 31, 23, 59, 59, 999999)),
        ("2019/", at(2019, 1, 1), None),
        ("/2019-01-01T00:00:00Z", None, at(2019, 1, 1)),
        ("../..", None, None),
        ("2020/9999", at(2020, 1, 1), datetime.max.replace(tzinfo=UTC)),
        ("2020/9999-12-31", at(2020, 1, 1), datetime.max.replace(tzinfo=UTC)),
        ("2020/9999-12", at(2020, 1, 1), datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_ranges(text, start, end):
    assert TimeRange.parse(text) == TimeRange(start=start, end=end)


@pytest.mark.parametrize(
    "text",
    [
        "", "..", "soon", "20200101", "2020-1", "2020-13", "2020-02-30", "2020-06-01T", "2020-06-01T24:00",
        "2020-06-01T12:00:61Z", "2020-06-01T12:60Z", "2020-06-01T12:00:00+24:00", "2020-06-01T12:00:00+02:60",
        "2020-06-01Z", "2020/2021/2022", "2021/2020", "0000", "0001-01-01T00:00:00+02:00", "٢٠٢٠",
        "2020-06-01T12:00:00 02:00", "x/..",
        "/", " / ", "../", "/..", "//",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the caller's to name the parameter in
        TimeRange.parse(text)


@pytest.mark.parametrize(
    "text", ["2020-06-01T12:00:00Z", "2019-01-01T00:00:00Z/..", "../2019-01-01T00:00:00Z"]
)
def test_a_range_is_written_as_it_is_read(text):
    assert str(TimeRange.parse(text)) == text


def test_a_moment_is_written_in_utc():
    assert written(parse_moment("2020-06-01T02:00:00+02:00")) == "2020-06-01T00:00:00Z"
    assert step("2020", "2021").seconds == (1_577_836_800, 1_609_459_200)
    assert str(step("2020", "2021")) == "2020-01-01T00:00:00Z/2021-01-01T00:00:00Z"


def test_steps_of_a_period():
    assert YEARS.count(NOW) == YEARS.count(at(2000, 1, 1)) == 7
    assert YEARS.step(0) == step("2017", "2018")
    assert YEARS.step(6) == step("2023", "2024")
    assert not YEARS.rolling
    assert YEARS.steps(2) == (step("2017", "2018"), step("2018", "2019"))


def test_axis_rolls_when_a_step_and_its_delay_have_passed():
    assert ROLLING.rolling
    assert ROLLING.count(at(2019, 1, 1)) == 0
    assert ROLLING.count(at(2020, 2, 10, 23)) == 0
    assert ROLLING.count(at(2020, 2, 11)) == 1
    assert ROLLING.count(at(2021, 1, 11)) == 12


def test_a_step_that_the_end_cuts_is_none():
    axis = TimeAxis(start=at(2020, 1, 1), period=Period.parse("P16D"), end=at(2021, 1, 1))
    assert axis.count(NOW) == 22
    assert axis.step(21).end <= at(2021, 1, 1)


@pytest.mark.parametrize(
    ("axis", "asked", "numbers"),
    [
        (YEARS, ["2019"], (2,)),
        (YEARS, ["2019-05-05"], (2,)),
        (YEARS, ["2019-01-01T00:00:00Z"], (2,)),  # where one step ends, the next begins
        (YEARS, ["2018-12-31T23:59:59.999999Z"], (1,)),
        (YEARS, ["2018/2019"], (1, 2)),
        (YEARS, ["2018-06/2019-01-01T00:00:00Z"], (1, 2)),
        (YEARS, ["../.."], (0, 1, 2, 3, 4, 5, 6)),
        (YEARS, ["../2018"], (0, 1)),
        (YEARS, ["2022/.."], (5, 6)),
        (YEARS, ["1900/2017"], (0,)),
        (YEARS, ["2023", "2017", "2017"], (0, 6)),
        (LISTED, ["2022-05"], (2,)),
        (LISTED, ["2022-04"], (1,)),
        (LISTED, ["2020/2022-03"], (1,)),
        (ROLLING, ["2026-04"], (75,)),
    ],
)
def test_what_a_range_touches_is_selected(axis, asked, numbers):
    assert axis.select([TimeRange.parse(text) for text in asked], NOW) == numbers


@pytest.mark.parametrize(
    ("axis", "asked", "near"),
    [
        (YEARS, "2016", ["2017-01-01T00:00:00Z/2018-01-01T00:00:00Z"]),
        (YEARS, "../2016", ["2017-01-01T00:00:00Z/2018-01-01T00:00:00Z"]),
        (YEARS, "2024", ["2023-01-01T00:00:00Z/2024-01-01T00:00:00Z"]),
        (
            LISTED,
            "2021",
            ["2019-01-01T00:00:00Z/2020-01-01T00:00:00Z", "2022-03-01T00:00:00Z/2022-05-01T00:00:00Z"],
        ),
        (ROLLING, "2026-06", ["2026-05-01T00:00:00Z/2026-06-01T00:00:00Z"]),
    ],
)
def test_nothing_is_snapped_and_the_hint_names_the_nearest_steps(axis, asked, near):
    with pytest.raises(UnknownTimeError) as caught:
        axis.select([TimeRange.parse(asked)], NOW)
    assert str(TimeRange.parse(asked)) in caught.value.detail
    found = caught.value.hint.partition(";")[0].removeprefix("the nearest steps are ").split(" and ")
    assert found == near


def test_one_range_that_touches_nothing_fails_all():
    with pytest.raises(UnknownTimeError):
        YEARS.select([TimeRange.parse("2018"), TimeRange.parse("2030")], NOW)
    with pytest.raises(UnknownTimeError) as caught:
        ROLLING.select([TimeRange.parse("../..")], at(2020, 1, 1))
    assert caught.value.hint == "there is no step yet"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, "either"),
        ({"listed": LISTED.listed, "start": at(2020, 1, 1), "period": Period(months=1)}, "either"),
        ({"start": at(2020, 1, 1)}, "either"),
        ({"start": at(2020, 1, 29), "period": Period(months=1)}, "every month"),
        ({"start": at(2020, 1, 1), "period": Period(months=1), "end": at(2020, 1, 31)}, "single step"),
        ({"listed": (step("2020", "2022"), step("2021", "2023"))}, "overlap"),
        ({"listed": (step("2021", "2022"), step("2019", "2020"))}, "in order"),
        ({"start": at(2020, 1, 1), "period": Period(months=1), "delay": timedelta(days=999_999)}, "delay"),
        ({"start": at(2020, 1, 1, 0, 0, 0, 5), "period": Period(months=1)}, "whole second"),
        (
            {"start": at(2020, 1, 1), "period": Period(months=1), "end": datetime.max.replace(tzinfo=UTC)},
            "whole second",
        ),
        ({"listed": (step("2020-01-01T00:00:00.2Z", "2021"),)}, "whole second"),
    ],
)  # fmt: skip
def test_an_axis_that_can_not_be(made, said):
    with pytest.raises(ValueError, match=said):
        TimeAxis(**made)


def test_a_step_begins_before_it_ends():
    with pytest.raises(ValueError, match="before it ends"):
        step("2020", "2020")
