"""Addresses of the daemon: what a pattern of hosts matches, and what is refused with what would be right."""

from __future__ import annotations

import re

import pytest

from icehouse_server.core.addresses import (
    HostPattern,
    PublicUrl,
    host_of_address,
    is_within,
    parse_network,
    parse_origin,
)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("box.local", ["box.local", "BOX.local:80", "box.local:4326"], ["xbox.local", "box.local."]),
        ("box:4326", ["box:4326"], ["box", "box:43260", "box:04326", "box:4326:4326"]),
        ("*.example.org", ["a.example.org", "a.b.example.org:1"], ["example.org", "badexample.org"]),
        ("*.example.org:81", ["a.example.org:81"], ["a.example.org", "a.example.org:8"]),
        ("192.0.2.7", ["192.0.2.7", "192.0.2.7:4326"], ["192.0.2.70", "192.0.2.7.nip.io"]),
        ("[2001:DB8::1]:1", ["[2001:db8::1]:1"], ["[2001:db8::1]", "2001:db8::1:1"]),
        (" My_Service ", ["my_service:8000"], ["my-service"]),
    ],
)
def test_a_pattern_of_hosts_and_what_it_matches(pattern, matching, others):
    parsed = HostPattern.parse(pattern)
    assert [host for host in matching if not parsed.matches(host)] == []
    assert [host for host in others if parsed.matches(host)] == []
    assert HostPattern.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.org/icehouse", "example.org"),
        ("http://user@example.org:81", "example.org:81"),
        ("example.org/icehouse", "write the host alone: example.org"),
        ("10.0.0.0/8", "is a network"),
        ("2001:db8::/32", "is a network"),
        ("*", "every host"),
        ("0.0.0.0", "every host"),
        ("[::]", "every host"),
        ("*.org", "*.example.org"),
        ("*.", "is not the name"),
        ("a.*.example.org", "is not the name"),
        ("*example.org", "is not the name"),
        ("::1", "[::1]"),
        ("[::1", "is not the name"),
        ("[::ffff:192.0.2.1]", "is not the name"),
        ("example.org:0", "1 to 65535"),
        ("example.org:65536", "1 to 65535"),
        ("example.org:http", "is not the name"),
        ("example.org.", "is not the name"),
        ("example..org", "is not the name"),
        ("-a.example.org", "is not the name"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a b", "is not the name"),
        ("", "is not the name"),
        ("x" * 300, "is not the name"),
    ],
)
def test_what_is_not_a_pattern_of_hosts(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        HostPattern.parse(text)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.2", "127.0.0.2"),
        ("::1", "[::1]"),
        ("fe80::1%eth0", "[fe80::1]"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("localhost", None),
        (None, None),
    ],
)
def test_the_host_of_an_address(address, host):
    assert host_of_address(address) == host


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://Maps.Example.org/icehouse/", "https://maps.example.org/icehouse"),
        ("https://example.org:443", "https://example.org"),
        ("http://example.org:8080/a/b.c/", "http://example.org:8080/a/b.c"),
        ("http://[2001:db8::1]:81/", "http://[2001:db8::1]:81"),
    ],
)
def test_a_public_url(text, url):
    assert str(PublicUrl.parse(text)) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "ftp://example.org",
        "https://",
        "https://user@example.org",
        "https://example.org/?a=1",
        "https://example.org/#a",
        "https://example.org//a",
        "https://example.org/../a",
        "https://example.org/a b",
        "https://example.org:0",
        "https://exa mple.org",
        "https://*.example.org",
    ],
)
def test_what_is_not_a_public_url(text):
    with pytest.raises(ValueError, match=r"\w"):
        PublicUrl.parse(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Maps.example.org", "https://maps.example.org"),
        ("https://maps.example.org:443/", "https://maps.example.org"),
        ("http://localhost:8888", "http://localhost:8888"),
    ],
)
def test_an_origin(text, origin):
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("*", "name the origins"),
        ("null", "name the origins"),
        ("maps.example.org", "is not an origin"),
        ("https://maps.example.org/app", "write https://maps.example.org"),
        ("https://*.example.org", "is not a host"),
        ("file:///home", "is not an origin"),
    ],
)
def test_what_is_not_an_origin(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_origin(text)


def test_networks_of_proxies():
    networks = [
        parse_network(text) for text in ("127.0.0.1", "10.1.2.3/8", "[2001:db8::1]", "2001:db8:1::/48")
    ]
    inside = ("127.0.0.1", "10.200.0.1", "2001:db8::1", "2001:db8:1::9", "::ffff:10.0.0.1")
    outside = ("127.0.0.2", "11.0.0.1", "2001:db8::2", "unknown", "")
    assert [address for address in inside if not is_within(address, networks)] == []
    assert [address for address in outside if is_within(address, networks)] == []


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "proxy.example.org", "10.0.0.0/33", "*", ""])
def test_what_is_not_a_network_of_proxies(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_network(text)
