"""Collection files that are written: whatever the texts of a source hold, the file says that and no more."""

from __future__ import annotations

import math
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icehouse_server.collections.draft_text import draft_text
from icehouse_server.collections.loader import parse_collection
from icehouse_server.core.drafts.draft import Draft, DraftBand, DraftGrid, Remark, band_names, id_of
from icehouse_server.core.toml_text import toml_value

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def draft(**more):
    known = {
        "id": "lake",
        "title": "A lake",
        "grid": DraftGrid(
            crs="EPSG:32633", resolution=10.0, bounds=(400000.0, 5200000.0, 402000.0, 5201000.0)
        ),
        "source": {"type": "files", "folder": "/lake", "datetime": {"pattern": r"_(\d{8})"}},
        "time": {"start": "2020", "period": "yearly", "end": "2023"},
        "bands": (
            DraftBand(name="depth", dtype="float32", nodata=math.nan, units="m", source={"index": 1}),
            DraftBand(name="kind", dtype="uint8", scale=0.5, source={"index": 2}),
        ),
    }
    return Draft(**{**known, **more})


def test_a_draft_is_read_as_what_it_says():
    spec = parse_collection(draft_text(draft(interval=("2020-01-01T00:00:00Z", None))), "lake.toml")
    assert spec.grid.shape == (100, 200)
    assert spec.interval == ("2020-01-01T00:00:00Z", None)
    assert spec.time is not None
    assert [band.name for band in spec.bands] == ["depth", "kind"]
    assert spec.bands[0].dtype == np.float32
    assert math.isnan(spec.bands[0].nodata)
    assert spec.bands[1].nodata is None
    assert spec.bands[1].scale == 0.5
    assert spec.source["datetime"] == {"pattern": r"_(\d{8})"}


@given(title=TEXTS.filter(bool), description=TEXTS, words=st.lists(TEXTS, max_size=3), remark=TEXTS)
def test_texts_from_elsewhere_stay_texts(title, description, words, remark):
    places = ["", "license", "grid", "source", "bands", "band:depth", "styles"]
    made = draft(
        title=title,
        description=description,
        keywords=tuple(words),
        links=((title, "https://example.org/"),),
        remarks=tuple(Remark(where=where, text=remark) for where in places),
    )
    spec = parse_collection(draft_text(made), "lake.toml")
    assert (spec.title, spec.description, spec.keywords) == (title, description, tuple(words))
    assert spec.links == ((title, "https://example.org/"),)
    assert len(spec.bands) == 2


def test_a_remark_stands_above_what_it_is_about():
    text = draft_text(
        draft(
            remarks=(Remark(where="license", text='Nothing says it.\n license = "CC-BY-4.0"', fill_in=True),)
        )
    )
    assert '# Nothing says it.\n# license = "CC-BY-4.0"\n' in text
    assert "license" not in tomllib.loads(text)


_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES)
def test_values_are_read_back_as_they_were(value):
    found = tomllib.loads(f"value = {toml_value(value)}")["value"]
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ArcticDEM mosaics, v4.1", "arcticdem-mosaics-v4.1"),
        ("../..", "collection"),
        ("USGS/SRTMGL1_003", "usgs-srtmgl1_003"),
        ("x" * 99, "x" * 64),
    ],
)
def test_ids(text, found):
    assert id_of(text) == found


@given(st.lists(st.text(max_size=80), max_size=5))
def test_band_names_are_names_and_differ(texts):
    names = band_names(texts)
    assert len(set(names)) == len(names) == len(texts)
    for name in names:
        spec = parse_collection(draft_text(draft(bands=(DraftBand(name=name, dtype="uint8"),))), "x.toml")
        assert spec.bands[0].name == name
