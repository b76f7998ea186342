"""The index of what is cached."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.store.repository.index import Index
from icehouse_server.testing.fakes import tiny_spec

SPEC = tiny_spec()
keys = st.builds(SPEC.key, st.sampled_from(["dem", "mask"]), st.integers(0, 9), st.integers(0, 12))


@given(st.lists(st.tuples(st.sampled_from(["add", "void", "discard"]), keys), max_size=50))
def test_present_and_void_are_kept_by_band(operations):
    index, present, void = Index(SPEC), set(), set()
    for name, key in operations:
        void.discard(key)
        if name == "discard":
            index.discard(key)
            present.discard(key)
        else:
            index.add(key, void=name == "void")
            present.add(key)
            void |= {key} if name == "void" else set()
    assert len(index) == len(present)
    for band in SPEC.bands:
        for row in range(10):
            for col in range(13):
                key = SPEC.key(band.name, row, col)
                assert index.has(key) == (key in present)
                assert index.is_void(key) == (key in void)
