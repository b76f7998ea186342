"""The token file: made once, whole, for its owner alone; refused in any other state."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from icehouse_server.core.errors import ConfigurationError
from icehouse_server.settings import Settings
from icehouse_server.settings.token import read_token_file

TOKEN = "a-token-of-more-than-16-characters"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "token"


def put(path, text=TOKEN, mode=0o600):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_missing_file_is_made_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "token"
    before = os.umask(0)
    try:
        token = read_token_file(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"{token}\n"
    assert len(token) == 43  # 256 bits in base64
    assert list(path.parent.iterdir()) == [path]
    assert read_token_file(path) == token
    path.unlink()
    assert read_token_file(path) != token


def test_those_who_make_it_at_once_agree(path):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: read_token_file(path), range(8)))
    assert found == {path.read_text().strip()}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_with_blanks_around_its_token(path):
    assert read_token_file(put(path, f"\n  {TOKEN}\r\n")) == TOKEN


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o620, 0o602, 0o610, 0o666, 0o777], ids=oct)
def test_a_file_that_others_may_use_is_refused(path, tmp_path, mode):
    put(path, mode=mode)
    link = tmp_path / "link"
    link.symlink_to(path)
    for named in (path, link):
        with pytest.raises(ConfigurationError) as caught:
            read_token_file(named)
        assert f"mode {mode:04o}" in caught.value.detail
        assert str(named) in caught.value.detail
        assert TOKEN not in caught.value.detail + caught.value.hint


def test_a_link_to_a_file_of_ones_own_is_followed(path, tmp_path):
    put(path)
    (tmp_path / "link").symlink_to(path)
    assert read_token_file(tmp_path / "link") == TOKEN


def test_a_link_to_nothing_is_refused(path, tmp_path):
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="token_file"):
        read_token_file(path)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "short",
        "with a space in the middle",
        "two-lines-of-text\ntwo-lines",
        "x" * 5000,
        "\x00" * 20,
    ],
)
def test_a_file_without_a_token_is_refused(path, text):
    with pytest.raises(ConfigurationError) as caught:
        read_token_file(put(path, text))
    assert "token_file" in caught.value.detail
    assert caught.value.hint


def test_a_file_that_is_no_text_is_refused(path):
    with pytest.raises(ConfigurationError, match="token_file"):
        read_token_file(put(path, b"\xff" * 32))


def test_what_is_no_file_is_refused_and_not_waited_for(path):
    with pytest.raises(ConfigurationError, match="token_file"):
        read_token_file(path.parent)
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="not a file"):
        read_token_file(path)


def test_a_folder_that_can_not_be_made_is_named(path):
    put(path)
    with pytest.raises(ConfigurationError, match="token_file"):
        read_token_file(path / "below" / "token")


def test_one_of_the_two_settings_at_most(path):
    with pytest.raises(ValueError, match="token and token_file"):
        Settings(token=TOKEN, token_file=path)
    assert Settings(token=TOKEN).read_token() == TOKEN
    assert Settings(token_file=path).read_token() == path.read_text().strip()
    assert Settings().read_token() is None


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 513, "with a space in the middle", "täuschend-echtes-token"]
)
def test_a_token_that_is_none_is_refused(token):
    with pytest.raises(ValueError, match="16 to 512"):
        Settings(token=token)


def test_a_token_is_not_shown():
    settings = Settings(token=TOKEN)
    assert TOKEN not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("host", "trusted", "reading"),
    [("127.0.0.1", False, False), ("0.0.0.0", False, True), ("0.0.0.0", True, False), ("::", False, True)],
)
def test_when_reading_needs_it(host, trusted, reading):
    settings = Settings(token=TOKEN, host=host, trusted_network=trusted)
    assert settings.token_for_reading == reading
    assert not Settings(host=host, trusted_network=True).token_for_reading
