"""Each call has an id that the daemon writes into its log; errors name it."""

from __future__ import annotations

import logging
import re
import socket

import pytest

import icehouse

HEADER = "Icehouse-Request-Id"


def sent(daemon):
    return [request.headers[HEADER] for request in daemon.requests]


def test_each_call_sends_an_id_of_its_own_that_the_daemon_takes(client, daemon, box):
    client.load(box)
    client.load(box)
    first, second = sent(daemon)
    assert re.fullmatch("[A-Za-z0-9._-]{1,64}", first)
    assert first != second


def test_an_error_names_the_request_and_retries_keep_its_id(client, daemon, double, box):
    daemon.script += [double.problem("busy", 503, retry_after=0.01), double.problem("disk-full", 507)]
    with pytest.raises(icehouse.DiskFull) as caught:
        client.load(box)
    first, second = sent(daemon)
    assert first == second == caught.value.request_id
    assert first in str(caught.value)
    assert first not in caught.value.detail


def test_the_id_that_the_answer_carries_is_the_one_to_look_for(client, daemon, double, box):
    def renamed(handler):
        status, headers, body = double.problem("disk-full", 507)(handler)
        return status, {**headers, HEADER: "the-daemons-own"}, body

    daemon.script.append(renamed)
    with pytest.raises(icehouse.DiskFull, match=r"request the-daemons-own in the daemon's log"):
        client.load(box)


def test_outside_region_broken_response_and_timeout_name_it_too(client, daemon, box):
    def outside(_handler):
        return 204, {HEADER: "outside-1"}, b""

    def no_json(_handler):
        return 200, {"Content-Type": "application/json", HEADER: "broken-1"}, b"{"

    daemon.script += [outside, no_json]
    with pytest.raises(icehouse.OutsideCollection, match="outside-1"):
        client.load(box)
    with pytest.raises(icehouse.ProtocolError, match="broken-1"):
        client.plan(box)
    daemon.script.append(
        lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    )
    with pytest.raises(icehouse.IcehouseError) as caught:
        client.load(box)
    assert sent(daemon)[-1] in str(caught.value)


def test_without_a_daemon_there_is_no_log_to_point_at(box):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with icehouse.Client(url, "dem") as client, pytest.raises(icehouse.ConnectionFailed) as caught:
            client.load(box)
    assert caught.value.request_id
    assert "log" not in str(caught.value)


def test_the_warning_about_failed_chunks_names_it(client, daemon, box, caplog):
    def holes(handler):
        status, headers, body = handler.server.default(handler)
        return status, {**headers, "Icehouse-Failed-Chunks": "2", HEADER: "holes-1"}, body

    daemon.script.append(holes)
    with caplog.at_level(logging.WARNING, logger="icehouse"):
        client.load(box, fail_on_error=False)
    assert "holes-1" in caplog.text
