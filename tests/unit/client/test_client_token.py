"""The token of a client: where it comes from, where it goes, and where it must not go."""

from __future__ import annotations

import pickle
import traceback

import pytest

import icehouse
from icehouse._httpx import HttpxTransport
from icehouse._native import NativeTransport
from icehouse._session import Session

TOKEN = "a-token-that-is-not-known"
OTHER = "another-token-of-the-file"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    monkeypatch.delenv("ICEHOUSE_TOKEN", raising=False)
    monkeypatch.delenv("ICEHOUSE_TOKEN_FILE", raising=False)


@pytest.fixture
def token_file(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text(f"{OTHER}\n")
    monkeypatch.setenv("ICEHOUSE_TOKEN_FILE", str(path))
    return path


def sent(daemon):
    return daemon.requests[-1].headers.get("Authorization")


def test_no_token_is_sent_where_there_is_none(daemon):
    with icehouse.Client(daemon.url) as client:
        client.collections()
    assert sent(daemon) is None


@pytest.mark.usefixtures("token_file")
def test_token_argument_precedes_variable_and_variable_the_file(daemon, monkeypatch):
    with icehouse.Client(daemon.url) as client:
        client.collections()
        assert sent(daemon) == f"Bearer {OTHER}"
        monkeypatch.setenv("ICEHOUSE_TOKEN", TOKEN)
        client.collections()
        assert sent(daemon) == f"Bearer {TOKEN}"
        monkeypatch.setenv("ICEHOUSE_TOKEN", "")
        client.collections()
        assert sent(daemon) == f"Bearer {OTHER}"
    monkeypatch.setenv("ICEHOUSE_TOKEN", TOKEN)
    with icehouse.Client(daemon.url, token="explicit") as client:
        client.collections()
    assert sent(daemon) == "Bearer explicit"


def test_a_new_token_in_the_file_counts_at_once(daemon, token_file):
    with icehouse.Client(daemon.url) as client:
        client.collections()
        token_file.write_text(TOKEN)
        client.collections()
    assert sent(daemon) == f"Bearer {TOKEN}"


@pytest.mark.usefixtures("token_file")
def test_a_pickle_holds_an_explicit_token_alone(daemon, monkeypatch):
    monkeypatch.setenv("ICEHOUSE_TOKEN", TOKEN)
    with icehouse.Client(daemon.url) as client:
        client.collections()
        for thing in (client, client["dem"]):
            pickled = pickle.dumps(thing)
            assert TOKEN.encode() not in pickled
            assert OTHER.encode() not in pickled
    with icehouse.Client(daemon.url, token=TOKEN) as client:
        again = pickle.loads(pickle.dumps(client))
    monkeypatch.delenv("ICEHOUSE_TOKEN")
    with again:
        again.collections()
    assert sent(daemon) == f"Bearer {TOKEN}"


def test_a_token_is_not_shown(daemon, double):
    daemon.script.append(double.problem("unauthorized", 401))
    with icehouse.Client(daemon.url, "dem", token=TOKEN) as client:
        with pytest.raises(icehouse.NotAllowed) as caught:
            client.metadata()
        shown = (repr(client), str(client), repr(client["dem"]), repr(client._session))
    assert caught.value.kind == "unauthorized"
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert not any(TOKEN in text for text in shown)


@pytest.mark.parametrize(
    "text", ["", "\n", "line\nbreak-in-the-token", "tab\tin-the-token", "täuschend-echt-token", "\x00" * 20]
)
def test_a_file_without_a_token(daemon, token_file, text):
    token_file.write_text(text, encoding="utf-8")
    with icehouse.Client(daemon.url) as client, pytest.raises(icehouse.BadParameter) as caught:
        client.collections()
    assert "ICEHOUSE_TOKEN_FILE" in str(caught.value)
    assert "in-the-token" not in str(caught.value)
    assert daemon.requests == []


def test_a_file_that_is_not_there(daemon, token_file):
    token_file.unlink()
    with (
        icehouse.Client(daemon.url) as client,
        pytest.raises(icehouse.BadParameter, match=r"ICEHOUSE_TOKEN_FILE.*token"),
    ):
        client.collections()


@pytest.mark.parametrize("make", [NativeTransport, HttpxTransport])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(daemon, make, status):
    daemon.script.append(lambda _h: (status, {"Location": f"{daemon.url}/elsewhere"}, b""))
    session = Session(daemon.url, timeout=5, token=TOKEN)
    session._transport = make(daemon.url)
    with pytest.raises(icehouse.ProtocolError):
        session.get_json("/collections")
    session.close()
    assert [(request.path, sent(daemon)) for request in daemon.requests] == [
        ("/collections", f"Bearer {TOKEN}")
    ]


def test_an_application_in_this_process_gets_it_too(monkeypatch):
    monkeypatch.setenv("ICEHOUSE_TOKEN", TOKEN)
    seen = []

    async def app(scope, _receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        seen.append((scope["path"], dict(scope["headers"]).get(b"authorization")))
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", b"/elsewhere")]})
        await send({"type": "http.response.body", "body": b""})

    with icehouse.Client.from_app(app) as client, pytest.raises(icehouse.ProtocolError):
        client.collections()
    assert seen == [("/collections", f"Bearer {TOKEN}".encode())]
