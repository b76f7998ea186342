"""Every way to fail has a name, within its time, and pickles."""

from __future__ import annotations

import pickle
import socket
import threading
import time

import pytest
from odc.geo.xr import ODCExtensionDa  # noqa: F401 - registers .odc

import icehouse

# odc-geo 0.5 multiplies affines in a way that affine 3 is going to retire.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

KINDS = {
    icehouse.BadParameter: ["bad-parameter", "bad-body", "not-acceptable"],
    icehouse.NotFound: ["unknown-collection", "unknown-band", "unknown-snapshot", "not-found"],
    icehouse.TooLarge: ["too-large"],
    icehouse.SourceFailed: ["source-refused", "source-corrupt", "source-unavailable", "chunks-failed"],
    icehouse.SourceTimeout: ["source-timeout", "deadline-exceeded"],
    icehouse.NotCached: ["not-cached"],
    icehouse.DiskFull: ["disk-full"],
    icehouse.NotAllowed: ["host-refused", "unauthorized", "cross-site-refused"],
    icehouse.ServerError: ["internal", "a-kind-of-tomorrow"],
}


@pytest.mark.parametrize(
    ("cls", "kind"), [(cls, kind) for cls, kinds in KINDS.items() for kind in kinds], ids=str
)
def test_each_kind_has_its_class(client, daemon, double, box, cls, kind):
    failed = [{"row": 1, "col": 2, "items": ["a"]}]
    daemon.script.append(double.problem(kind, 418, hint="Do this.", chunks=failed))
    with pytest.raises(cls) as caught:
        client.load(box)
    error = caught.value
    assert type(error) is cls
    assert (error.kind, error.status, error.detail) == (kind, 418, "detail")
    assert str(error) == f"Title: detail Do this. (request {error.request_id} in the daemon's log)"
    assert error.problem["hint"] == "Do this."
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (cls, str(error), error.__dict__)
    if isinstance(error, icehouse.SourceFailed):
        assert again.chunks == failed
    assert len(daemon.requests) == 1  # nothing but Busy is retried


def test_every_class_pickles_and_is_an_icehouse_error():
    classes = [cls for cls in vars(icehouse).values() if isinstance(cls, type) and issubclass(cls, Exception)]
    assert len(classes) == 16
    for cls in classes:
        error = cls("sentence", kind="k", status=7, detail="d", problem={"retry_after": 2, "kind": "k"})
        again = pickle.loads(pickle.dumps(error))
        assert isinstance(again, icehouse.IcehouseError)
        assert (type(again), str(again), again.__dict__) == (cls, "sentence", error.__dict__)
        assert cls("x").kind


def test_builtin_bases():
    assert issubclass(icehouse.BadParameter, ValueError)
    assert issubclass(icehouse.OutsideCollection, ValueError)
    assert issubclass(icehouse.NotFound, LookupError)
    assert issubclass(icehouse.ConnectionFailed, ConnectionError)
    assert issubclass(icehouse.ClientTimeout, TimeoutError)


def test_outside(client, daemon, box):
    daemon.script.append(lambda _h: (204, {}, b""))
    with pytest.raises(icehouse.OutsideCollection, match="dem"):
        client.load(box)
    client.load(box)
    assert daemon.connections == 1  # a 204 has no body, and its connection lives on


def test_a_point_outside(client, daemon):
    daemon.script.append(lambda _h: (204, {}, b""))
    with pytest.raises(icehouse.OutsideCollection) as raised:
        client.point(-120, 10)
    assert raised.value.status == 204


@pytest.mark.parametrize("kind", ["busy", "shutting-down"])
def test_busy_is_asked_again_after_the_time_it_says(client, daemon, double, box, kind):
    daemon.script += [double.problem(kind, 503, retry_after=0.2), double.problem(kind, 503, retry_after=0)]
    start = time.monotonic()
    client.load(box)
    assert 0.2 <= time.monotonic() - start < 20
    assert len(daemon.requests) == 3


def test_busy_gives_up_at_once_if_the_wait_exceeds_the_timeout(client, daemon, double, box):
    daemon.script.append(double.problem("busy", 503, retry_after=60))
    start = time.monotonic()
    with pytest.raises(icehouse.Busy) as caught:
        client.load(box, timeout=50)
    assert time.monotonic() - start < 25
    assert caught.value.retry_after == 60
    waits = ["0.05"] * 3 + ["49"]
    daemon.script += [
        lambda _h, wait=wait: (503, {"Retry-After": wait, "Content-Type": "text/plain"}, b"later")
        for wait in waits
    ]
    with pytest.raises(icehouse.Busy, match="later"):
        client.load(box, timeout=49)  # the first waits have taken a part of it
    assert len(daemon.requests) == 1 + len(waits)


def test_answers_that_explain_nothing(client, daemon, box):
    daemon.script += [
        lambda _h: (404, {"Content-Type": "text/html"}, b"<h1>nginx</h1>"),
        lambda _h: (500, {"Content-Type": "application/problem+json"}, b"{broken"),
        lambda _h: (201, {}, b""),
    ]
    with pytest.raises(icehouse.ProtocolError, match="is an Icehouse daemon listening there"):
        client.load(box)
    with pytest.raises(icehouse.ServerError):
        client.load(box)
    with pytest.raises(icehouse.ProtocolError, match="201"):
        client.load(box)
    for body in (b"[]", b"{", b"{}", b'{"collections": 1}'):
        daemon.script.append(lambda _h, body=body: (200, {}, body))
        with pytest.raises(icehouse.ProtocolError):
            client.collections()
    for call in (lambda: client.plan(box), lambda: client.point(1, 2)):
        daemon.script.append(lambda _h: (200, {}, b"{}"))
        with pytest.raises(icehouse.ProtocolError, match="has an unexpected format"):
            call()


def test_nothing_listens(box):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    client = icehouse.Client(url, "dem")
    with pytest.raises(ConnectionError, match=f"{url}.*icehouse serve.*docker compose up.*ICEHOUSE_URL"):
        client.load(box)
    with pytest.raises(icehouse.ConnectionFailed):
        icehouse.Client(url.replace("http", "https"), "dem").load(box)
    with pytest.raises(icehouse.ConnectionFailed):
        icehouse.Client("http://icehouse.invalid", "dem").load(box)


def _raw(*pieces, pause=0.0):
    def reply(handler):
        for piece in pieces:
            try:
                handler.wfile.write(piece)
            except OSError:
                return
            time.sleep(pause)

    return reply


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((HEAD + b"x" * 1000,), "1000 of 200000 bytes"),
        ((HEAD,), "0 of 200000 bytes"),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",), "broken"),
        ((b"SSH-2.0-OpenSSH\r\n",), "broken"),
    ],
)
def test_truncated_answers(client, daemon, box, pieces, message):
    client.load(box)  # so that the broken answer comes on a kept connection
    daemon.script.append(_raw(*pieces))
    with pytest.raises(icehouse.ProtocolError, match=message):
        client.load(box)
    assert client.load(box).odc.geobox == box


def test_an_answer_without_a_byte_on_a_fresh_connection(client, daemon, box):
    daemon.script.append(_raw())
    with pytest.raises(icehouse.ConnectionFailed, match="without an answer"):
        client.load(box)
    assert len(daemon.requests) == 1


def test_chunked_answers_are_read(client, daemon, box):
    def chunked(handler):
        data = daemon.coverage(handler.body)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        handler.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

    daemon.script.append(chunked)
    assert client.load(box).odc.geobox == box


@pytest.mark.parametrize("case", ["silent", "trickle"])
def test_a_slow_answer_ends_in_time(client, daemon, box, case):
    client.load(box)
    release = threading.Event()
    slow = (
        _raw(HEAD, *[b"x"] * 600, pause=0.05) if case == "trickle" else lambda _h: release.wait(30) and None
    )
    daemon.script.append(slow)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.3 s") as caught:
        client.load(box, timeout=0.3)
    release.set()
    assert isinstance(caught.value, icehouse.ClientTimeout)
    assert time.monotonic() - start < 20
    assert client.load(box).odc.geobox == box


def test_failed_chunks_are_logged_when_nodata_was_asked_for(client, daemon, box, caplog):
    daemon.script.append(lambda h: (200, {"Icehouse-Failed-Chunks": "3"}, daemon.coverage(h.body)))
    client.load(box, fail_on_error=False)
    assert "3 chunks failed" in caplog.text
