"""A pace tells how long an amount takes, in whole seconds that are never too few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.core.rates import LONGEST, SHORTEST, RateEstimator


def test_nothing_measured_is_a_guess():
    pace = RateEstimator(lambda: 0.0)
    assert pace.seconds_for(100) == 5
    pace.note()
    assert pace.seconds_for(100) == 5


@given(gap=st.floats(0.01, 20), amount=st.integers(-3, 200), events=st.integers(2, 200))
def test_a_steady_pace_is_kept(gap, amount, events):
    clock = [0.0]
    pace = RateEstimator(lambda: clock[0])
    for event in range(events):
        clock[0] = event * gap
        pace.note()
    seconds = pace.seconds_for(amount)
    assert SHORTEST <= seconds <= LONGEST
    assert seconds == LONGEST or seconds >= amount * gap * 0.999
    assert seconds == SHORTEST or seconds <= amount * gap + 1.001


def test_a_pace_falls_while_nothing_goes_by():
    clock = [0.0]
    pace = RateEstimator(lambda: clock[0])
    for second in range(10):
        clock[0] = float(second)
        pace.note()
    assert pace.seconds_for(10) == 10
    clock[0] = 27.0
    assert pace.seconds_for(10) == 30
    clock[0] = 1000.0
    assert pace.seconds_for(1) == LONGEST
