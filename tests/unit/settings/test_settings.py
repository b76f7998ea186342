"""Settings: who wins, where a value came from, and what is said of a wrong one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from icehouse_server.core.addresses import stays_on_this_machine
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No variables, no files: neither of the machine nor of the working folder."""
    import os

    for name in os.environ:
        if name.upper().startswith("ICEHOUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_command_line_over_environment_over_file_over_default(tmp_path, monkeypatch):
    file = write(tmp_path / "own.toml", "port = 1\nmax_fills = 2\nblock_side = 3\n")
    monkeypatch.setenv("ICEHOUSE_PORT", "10")
    monkeypatch.setenv("ICEHOUSE_MAX_FILLS", "20")
    force = load_settings({"port": 100, "host": None}, config=file)
    found = force.settings
    assert (found.port, found.max_fills, found.block_side) == (100, 20, 3)
    assert found.host == "127.0.0.1", "None on the command line means not given"
    assert force.origins["port"] == "command line"
    assert force.origins["max_fills"] == "environment ICEHOUSE_MAX_FILLS"
    assert force.origins["block_side"] == f"file {file}"
    assert force.origins["host"] == "default"
    assert set(force.origins) == set(Settings.model_fields)


def test_the_first_file_there_is_is_read_and_no_other(bare, tmp_path, monkeypatch):
    assert load_settings().settings.port == 4326
    write(tmp_path / "config" / "icehouse" / "icehouse.toml", "port = 1\nmax_fills = 7\n")
    assert load_settings().settings.port == 1
    write(bare / "icehouse.toml", "port = 2\n")
    assert load_settings().settings.port == 2
    assert load_settings().settings.max_fills != 7
    monkeypatch.setenv("ICEHOUSE_CONFIG", str(write(tmp_path / "named.toml", "port = 3\n")))
    assert load_settings().settings.port == 3
    assert load_settings(config=write(tmp_path / "given.toml", "port = 4\n")).settings.port == 4


def test_a_named_file_must_be_there(tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match=r"missing\.toml"):
        load_settings(config=tmp_path / "missing.toml")
    monkeypatch.setenv("ICEHOUSE_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigurationError, match=r"missing\.toml"):
        load_settings()


@pytest.mark.parametrize("text", ["port = ", "port == 1", "\x00", "port = 1\nport = 2"])
def test_a_file_that_is_no_toml_is_named(tmp_path, text):
    with pytest.raises(ConfigurationError, match=r"bad\.toml"):
        load_settings(config=write(tmp_path / "bad.toml", text))


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "bad.toml").write_bytes(b"port = 1 # \xff\xfe")
    with pytest.raises(ConfigurationError, match=r"bad\.toml"):
        load_settings(config=tmp_path / "bad.toml")


def test_unknown_keys_come_with_the_nearest_known_one(tmp_path, monkeypatch):
    file = write(tmp_path / "own.toml", "max_fils = 2\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config=file)
    assert "'max_fils'" in caught.value.detail
    assert str(file) in caught.value.detail
    assert "max_fills" in caught.value.hint
    monkeypatch.setenv("ICEHOUSE_MAX_FILS", "2")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "ICEHOUSE_MAX_FILS" in caught.value.detail
    assert "ICEHOUSE_MAX_FILLS" in caught.value.hint


@pytest.mark.parametrize("name", ["ICEHOUSE_URL", "ICEHOUSE_CHROMIUM", "ICEHOUSE_WITHOUT_PAGE"])
def test_the_variables_of_client_and_checkout_are_no_settings(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert load_settings().settings.port == 4326


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"),
        ("port", "70000"),
        ("port", "-1"),
        ("block_side", "0"),
        ("request_timeout", "0"),
        ("request_timeout", "nan"),
        ("log_level", "loud"),
        ("trusted_network", "perhaps"),
        ("mirrors", '{"ftp://a/": "http://b/"}'),
        ("mirrors", '{"http://a/": "http://b"}'),
        ("decoded_cache_bytes", "1.5"),
    ],
)
@pytest.mark.parametrize("way", ["environment", "command line"])
def test_a_bad_value_is_named_with_its_origin(monkeypatch, name, value, way):
    given_by_hand = {}
    if way == "environment":
        monkeypatch.setenv(f"ICEHOUSE_{name.upper()}", value)
    elif name == "mirrors":
        given_by_hand[name] = {"ftp://a/": "http://b/"}
    else:
        given_by_hand[name] = value
    with pytest.raises(ConfigurationError) as caught:
        load_settings(given_by_hand)
    assert name in caught.value.detail
    assert way in caught.value.detail


def test_a_table_that_is_no_json_is_named(monkeypatch):
    monkeypatch.setenv("ICEHOUSE_MIRRORS", "http://a/=http://b/")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "mirrors" in caught.value.detail
    assert "JSON" in caught.value.detail


def test_an_empty_variable_is_an_unset_one(tmp_path, monkeypatch):
    file = write(tmp_path / "own.toml", 'port = 1\ncollections = ["a"]\n')
    for name in ("PORT", "COLLECTIONS", "MIRRORS", "CONFIG"):
        monkeypatch.setenv(f"ICEHOUSE_{name}", "")
    force = load_settings(config=file)
    assert force.settings.port == 1
    assert force.settings.collections == ("a",)
    assert force.settings.mirrors == {}
    assert force.origins["port"].startswith("file")
    assert force.origins["mirrors"] == "default"


def test_lists_and_tables_come_in_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_COLLECTIONS", " arcticdem-32m , b,")
    monkeypatch.setenv("ICEHOUSE_MIRRORS", '{"https://a.org/x/": "http://127.0.0.1:9000/"}')
    found = load_settings().settings
    assert found.collections == ("arcticdem-32m", "b")
    assert found.mirrors == {"https://a.org/x/": "http://127.0.0.1:9000/"}
    monkeypatch.delenv("ICEHOUSE_COLLECTIONS")
    monkeypatch.delenv("ICEHOUSE_MIRRORS")
    file = write(tmp_path / "own.toml", 'collections = ["a", "b"]\n[mirrors]\n"https://a/" = "s3://b/"\n')
    found = load_settings(config=file).settings
    assert found.collections == ("a", "b")
    assert found.mirrors == {"https://a/": "s3://b/"}
    assert load_settings({"collections": ["c"]}, config=file).settings.collections == ("c",)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.example.org", False),
        ("", False),
        ("2130706433", False),
    ],
)
def test_beyond_loopback_needs_a_word(host, loopback):
    assert stays_on_this_machine(host) == loopback
    if loopback:
        assert load_settings({"host": host}).settings.host == host
    else:
        with pytest.raises(ConfigurationError, match="trusted_network"):
            load_settings({"host": host})
        assert load_settings({"host": host, "trusted_network": True}).settings.host == host


def test_paths_are_paths():
    found = load_settings({"cache_dir": "~/ice", "collections_dir": "own"}).settings
    assert found.cache_dir == Path("~/ice")
    assert found.collections_dir == Path("own")


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("settings", "reading", "refused"),
    [
        ({"public_url": "https://maps.example.org/x"}, None, True),
        ({"trusted_proxies": "10.0.0.1"}, None, True),
        ({"public_url": "https://localhost:8443/x", "trusted_proxies": "127.0.0.1"}, False, False),
        ({"public_url": "https://maps.example.org", "token": "x" * 16}, True, False),
        ({"trusted_proxies": "10.0.0.1", "token": "x" * 16}, True, False),
        (
            {"public_url": "https://maps.example.org", "token": "x" * 16, "trusted_network": True},
            False,
            False,
        ),
    ],
)
def test_behind_a_proxy_needs_a_word(settings, reading, refused):
    if refused:
        with pytest.raises(ConfigurationError, match="trusted_network"):
            load_settings(settings)
        return
    assert load_settings(settings).settings.token_for_reading is reading


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("allowed_hosts", "https://example.org", "write its host alone: example.org"),
        ("allowed_hosts", "10.0.0.0/8", "is a network"),
        ("public_url", "maps.example.org", "https://example.org/icehouse"),
        ("trusted_proxies", "0.0.0.0/0", "name the proxies"),
        ("cors_origins", "*", "name the origins"),
    ],
)
def test_addresses_that_can_not_be_used_are_named(name, value, said, monkeypatch):
    monkeypatch.setenv(f"ICEHOUSE_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        load_settings({"trusted_network": True})
    assert str(refused.value).startswith(f"{name} = {value!r} (environment ICEHOUSE_")
