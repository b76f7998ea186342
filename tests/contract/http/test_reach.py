"""Under which addresses a daemon answers: the one that it prints, those that are allowed, and `/healthz`."""

from __future__ import annotations

import re
import socket

import httpx
import pytest

from icehouse_server.testing.daemon import DaemonProcess


def status(url, path="/readyz", host=None, method="GET"):
    headers = {} if host is None else {"host": host}
    return httpx.request(method, f"{url}{path}", headers=headers, trust_env=False, timeout=60).status_code


def started(tmp_path_factory, **settings):
    folder = tmp_path_factory.mktemp("reach")
    common = {"collections": "arcticdem-32m", "cache_dir": folder / "cache"}
    return DaemonProcess(settings={**common, **settings}, log=folder / "log", home=folder)


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory):
    """A daemon that listens on every address, as in a container."""
    hosts = "maps.example.org:8443,*.lan.example.org"
    with started(tmp_path_factory, host="0.0.0.0", trusted_network="true", allowed_hosts=hosts) as daemon:
        yield daemon


@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.1.1", "::1", "localhost"])
def test_a_daemon_answers_at_the_address_that_it_prints(tmp_path_factory, host):
    with started(tmp_path_factory, host=host) as daemon:
        url = re.search(r"http://\S+", daemon.line)[0]
        assert status(url) == 200
        assert status(url, host=f"localhost:{daemon.port}") == 200
        assert status(url, host=f"evil.example:{daemon.port}") == 421
        if host == "127.0.0.2":
            assert status(url, host=f"127.0.0.3:{daemon.port}") == 421


def test_the_address_that_a_connection_came_to_is_answered(anywhere):
    for address in ("127.0.0.1", "127.0.0.5", *addresses_of_this_machine()):
        assert status(f"http://{address}:{anywhere.port}") == 200
        assert status(f"http://{address}:{anywhere.port}", host="192.0.2.1") == 421
        assert status(f"http://{address}:{anywhere.port}", host=address) == 421, "not without the port"


def addresses_of_this_machine():
    """Addresses beyond loopback, where this machine has any: what a kubelet or a neighbour would ask."""
    found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    return {address[0] for *_, address in found}


@pytest.mark.parametrize("host", ["10.1.2.3:4326", "evil.example", "", "a b", "[::]:1"])
def test_healthz_answers_whatever_the_host(anywhere, host):
    assert status(f"http://127.0.0.1:{anywhere.port}", "/healthz", host) == 200
    assert status(f"http://127.0.0.1:{anywhere.port}", "/healthz", host, "HEAD") == 200
    for path in ("/readyz", "/healthz/", "/", "/metrics"):
        assert status(f"http://127.0.0.1:{anywhere.port}", path, host) == 421
    assert status(f"http://127.0.0.1:{anywhere.port}", "/healthz", host, "POST") == 421


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("maps.example.org:8443", 200),
        ("maps.example.org", 421),
        ("a.lan.example.org", 200),
        ("a.b.lan.example.org:81", 200),
        ("lan.example.org", 421),
        ("badlan.example.org", 421),
    ],
)
def test_hosts_that_are_allowed(anywhere, host, answer):
    assert status(f"http://127.0.0.1:{anywhere.port}", host=host) == answer


def test_a_refusal_repeats_the_host_and_names_the_setting(anywhere):
    answer = httpx.get(
        f"http://127.0.0.1:{anywhere.port}/", headers={"host": "evil.example"}, trust_env=False
    )
    problem = answer.json()
    assert "'evil.example'" in problem["detail"]
    assert "allowed_hosts" in problem["hint"]
