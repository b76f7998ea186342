"""Collection files and settings under random documents: a ConfigurationError, or values that make sense."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import tomllib
from importlib import resources

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from icehouse_server.collections import loader
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.settings import Settings, load_settings
from icehouse_server.sources.stac import settings as stac_settings

TEXT = (resources.files("icehouse_server.collections") / "builtin" / "arcticdem-32m.toml").read_text()
DOCUMENT = tomllib.loads(TEXT)
"""Without the tables that not every collection has; see ``ROLLING`` and ``LISTED``."""
_BAND = {**DOCUMENT["bands"][0], "scale": 0.5, "offset": -10.0}
ROLLING = {
    **DOCUMENT,
    "source": {key: value for key, value in DOCUMENT["source"].items() if key != "tiling"},
    "time": {"start": "2020-01-01", "period": "P16D", "delay": "P2D"},
    "bands": [_BAND],
}
LISTED = {**ROLLING, "time": {"steps": [["2019", "2020-06"], ["2020-07-01T12:00:00Z", "2021"]]}}
NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
LONGEST = 1000
"""Characters of a detail: the values that it repeats are shortened."""

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(10**19), 10**19),
    st.floats(),
    st.just(dt.date(2020, 1, 1)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([
        0, -1, 10**400, 1e308, 5e-324, math.nan, math.inf, -0.0, "", "EPSG:3413", "EPSG:4979", "EPSG:4326",
        "/etc/passwd", "+proj=longlat", "../x", "x" * 5000, "dem", "float32", "int8", "NaN", "{row}",
        "{0.__class__}", "http://a b/", "https://[::1", "file:///x", "\x7f",
    ]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.é", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def toml(value):
    """A value as TOML writes it, tables inline."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return repr(value)
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case dict():
            return (
                "{" + ", ".join(f"{json.dumps(name)} = {toml(inner)}" for name, inner in value.items()) + "}"
            )
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return str(value)


def document_of(tables):
    return "\n".join(f"{json.dumps(name)} = {toml(value)}" for name, value in tables.items())


@st.composite
def wounded(draw, tables):
    """A document in which up to three nodes are others, gone, or called otherwise."""
    tables = json.loads(json.dumps(tables))
    for _ in range(draw(st.integers(1, 3))):
        holder, place = draw(st.sampled_from(list(_places(tables))))
        match draw(st.integers(0, 3)):
            case 0:
                del holder[place]
            case 1 if isinstance(holder, dict):
                holder[draw(st.sampled_from(["x", f"{place}s", "é", "a.b"]))] = holder.pop(place)
            case _:
                holder[place] = draw(VALUES)
        if not tables:
            break
    return tables


def _places(node):
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def read(text):
    """The spec that a file makes, with what its source makes of it; None where it is refused."""
    try:
        spec = loader.parse_collection(text, "mine.toml")
        stac_settings.parse_source(spec)
        for band in spec.bands:
            stac_settings.parse_band(spec, band)
    except ConfigurationError as refused:
        error = refused
    else:
        return spec
    assert len(error.detail) < LONGEST
    assert error.detail.startswith(("mine.toml", "collection '")), error.detail
    return None


def test_what_is_whole_is_read():
    assert read(TEXT) == read(document_of(DOCUMENT))
    assert read(document_of(ROLLING)).time.count(NOW) == 228
    assert read(document_of(LISTED)).time.count(NOW) == 2
    assert read(document_of(ROLLING)).bands[0].offset == -10


@given(wounded({"time": ROLLING["time"]}) | wounded({"time": LISTED["time"]}))
def test_time_axes(table):
    spec = read(document_of({**ROLLING, **table}))
    if spec is None or spec.time is None:
        return
    count = spec.time.count(NOW)
    assert count >= (0 if spec.time.rolling else 1)
    steps = spec.time.steps(min(count, 50))
    assert all(step.seconds[0] < step.seconds[1] for step in steps)
    assert list(steps) == sorted(steps)


@given(wounded(ROLLING))
def test_bands_with_a_scale(tables):
    spec = read(document_of(tables))
    for band in () if spec is None else spec.bands:
        assert math.isfinite(band.scale)
        assert math.isfinite(band.offset)
        assert band.scale


@given(wounded(DOCUMENT))
def test_collection_files(tables):
    spec = read(document_of(tables))
    if spec is None:
        return
    geobox = spec.grid.geobox
    assert min(geobox.shape) >= 1
    assert all(map(math.isfinite, geobox.affine))
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", spec.id)
    assert all(re.fullmatch(r"\w+", band.name) for band in spec.bands)


@given(st.integers(0, len(TEXT)), st.integers(0, 30), st.text(max_size=10))
@example(0, 0, "x = " + "[" * 100_000)
@example(0, 0, "x = " + "{a=" * 100_000)
@example(0, 0, "x = " + "9" * 5000)
@example(0, 0, "x = 1e999999999")
@example(0, 0, "x.y.z" + ".a" * 5000 + " = 1")
@example(0, 0, "\ud800 = 1")
@example(0, 0, "x = 0001-00-00")
@settings(max_examples=60)
def test_collection_files_with_a_hole(start, length, piece):
    read(TEXT[:start] + piece + TEXT[start + length :])


VALID = {
    "cache_dir": "/var/cache/icehouse",
    "collections": ["arcticdem-32m"],
    "host": "127.0.0.1",
    "port": 4326,
    "allowed_hosts": ["box.local:4326"],
    "mirrors": {"https://a.org/": "http://127.0.0.1:9000/"},
    "log_format": "json",
    "decoded_cache_bytes": 10**9,
    "request_timeout": 300.0,
    "trusted_network": False,
}


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A working folder of one's own, and no variable that is a setting."""
    for name in list(os.environ):
        if name.startswith("ICEHOUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_force(**options):
    try:
        return load_settings(**options).settings
    except ConfigurationError as refused:
        error = refused
    assert len(error.detail) < LONGEST
    assert "\n" not in error.detail
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=wounded(VALID))
def test_settings_files(alone, tables):
    path = alone / "mine.toml"
    path.write_text(document_of(tables), encoding="utf-8")
    found = in_force(config=path)
    if found is not None:
        assert set(tables) <= set(Settings.model_fields)
        assert 0 <= found.port <= 65535
        assert found.request_timeout > 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(content=st.binary(max_size=100))
@example(content=b"x = " + b"[" * 100_000)
@example(content=b"port = " + b"9" * 5000)
@example(content=b"\xff\xfe")
def test_settings_files_of_any_bytes(alone, content):
    path = alone / "mine.toml"
    path.write_bytes(content)
    in_force(config=path)


VARIABLES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(Settings.model_fields)),
    value=VARIABLES | st.sampled_from(["[]", "{}", "null", "1"]),
)
@example(name="mirrors", value="[" * 100_000)
@example(name="mirrors", value='{"a":' * 100_000)
@example(name="port", value="9" * 5000)
@example(name="request_timeout", value="nan")
@example(name="request_timeout", value="inf")
@example(name="cache_dir", value="x" * 5000)
@example(name="host", value="[" * 500)
def test_variables(alone, monkeypatch, name, value):  # noqa: ARG001 - for its folder
    with monkeypatch.context() as patch:
        patch.setenv(f"ICEHOUSE_{name.upper()}", value)
        found = in_force()
    if found is not None:
        assert all(math.isfinite(number) for _, number in found if isinstance(number, float))
