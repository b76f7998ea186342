"""ChunkSet is a set of positions, whatever is done to it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from icehouse_server.core.chunkset import ChunkSet
from icehouse_server.core.grid import Window

places = st.tuples(
    st.one_of(st.integers(0, 5), st.integers(60, 70), st.integers(0, 7000)),
    st.one_of(st.integers(0, 5), st.integers(126, 130), st.integers(0, 7000)),
)
operations = st.lists(st.tuples(st.sampled_from(["add", "discard"]), places), max_size=60)


@settings(max_examples=150)
@given(start=st.lists(places, max_size=20), operations=operations)
def test_it_is_a_set(start, operations):
    ours, model = ChunkSet(start), set(start)
    for name, (row, col) in operations:
        getattr(ours, name)(row, col)
        getattr(model, name)((row, col))
        assert ((row, col) in ours) == ((row, col) in model)
        assert len(ours) == len(model)
    listed = list(ours)
    assert len(listed) == len(set(listed))
    assert set(listed) == model


@settings(max_examples=150)
@given(
    members=st.lists(places, max_size=40),
    row=st.integers(0, 130),
    col=st.integers(0, 130),
    height=st.integers(1, 140),
    width=st.integers(1, 140),
)
def test_a_rectangle_is_answered_cell_by_cell(members, row, col, height, width):
    chunks = Window(row=row, col=col, height=height, width=width)
    ours = ChunkSet(members)
    found, listed = ours.within(chunks), ours.listed(chunks).tolist()
    expected = {(r - row, c - col) for r, c in members if row <= r < row + height and col <= c < col + width}
    assert found.shape == (height, width)
    assert {(int(r), int(c)) for r, c in zip(*found.nonzero(), strict=True)} == expected
    assert {(r - row, c - col) for r, c in listed} == expected
    assert len(listed) == len(expected)


def test_a_look_does_not_make_bitmaps():
    ours = ChunkSet()
    assert (10**6, 10**6) not in ours
    ours.discard(5, 5)
    ours.within(Window(row=0, col=0, height=1000, width=1000))
    assert not ours._maps


def test_100_000_members_that_lie_close_take_little_memory():
    ours = ChunkSet((row, col) for row in range(300) for col in range(300))
    assert sum(bitmap.nbytes for bitmap in ours._maps.values()) < 2 * len(ours)
