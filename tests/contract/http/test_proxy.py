"""A daemon behind a real nginx with TLS and a prefix, configured as docs/how-to/behind-a-proxy.md says."""

from __future__ import annotations

import re
import socket

import httpx
import pytest

import icehouse
from support.nginx import free_port, running_nginx

TOKEN = "0123456789abcdef0123456789abcdef"
COLLECTION = "/collections/arcticdem-32m"


@pytest.fixture(scope="module")
def proxied(start_daemon, tmp_path_factory):
    """The proxy, in front of a daemon that has its `public_url`."""
    port = free_port()
    settings = {
        "ICEHOUSE_PUBLIC_URL": f"https://localhost:{port}/icehouse/",
        "ICEHOUSE_TRUSTED_PROXIES": "127.0.0.1",
        "ICEHOUSE_TOKEN": TOKEN,
    }
    folder = tmp_path_factory.mktemp("nginx")
    with start_daemon(settings) as daemon, running_nginx(port, daemon.port, folder) as proxy:
        proxy.daemon = daemon
        yield proxy


@pytest.fixture(scope="module")
def named(start_daemon, tmp_path_factory):
    """The proxy, in front of a daemon that goes by its headers."""
    port = free_port()
    settings = {
        "ICEHOUSE_ALLOWED_HOSTS": f"localhost:{port}",
        "ICEHOUSE_TRUSTED_PROXIES": "127.0.0.0/8",
        "ICEHOUSE_TRUSTED_NETWORK": "true",
        "ICEHOUSE_TOKEN": TOKEN,
    }
    folder = tmp_path_factory.mktemp("nginx-named")
    with start_daemon(settings) as daemon, running_nginx(port, daemon.port, folder) as proxy:
        proxy.daemon = daemon
        yield proxy


@pytest.fixture(params=["proxied", "named"])
def proxy(request):
    """Both: links come from the setting, or from what the proxy says."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def http(proxy):
    with httpx.Client(verify=proxy.tls(), trust_env=False, timeout=60) as client:
        yield client


def urls_in(text):
    return set(re.findall(r"https?://(?:localhost|127\.0\.0\.1)[^\"'<>\s]*", text))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/collections",
        COLLECTION,
        f"{COLLECTION}/schema",
        f"{COLLECTION}/tiles",
        f"{COLLECTION}/tiles/WebMercatorQuad",
        f"{COLLECTION}/WebMercatorQuad/tilejson.json",
        f"{COLLECTION}/WMTSCapabilities.xml",
        "/tileMatrixSets",
        "/jobs",
    ],
)
def test_all_links_begin_with_the_public_url(proxy, http, path):
    answer = http.get(f"{proxy.url}{path}")
    assert answer.status_code == 200
    found = urls_in(answer.text)
    assert found
    assert [url for url in found if not f"{url}/".startswith(f"{proxy.url}/")] == []


def test_every_link_of_the_documents_answers(proxy, http):
    seen, waiting = set(), [f"{proxy.url}/"]
    while waiting:
        url = waiting.pop()
        if url in seen or "{" in url or "coverage." in url:
            continue
        seen.add(url)
        folder = "/zarr.json" if url.endswith(".zarr") else ""  # the link of a store leads to its folder
        answer = http.get(url + folder, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, url
        if "json" in answer.headers["content-type"] and "openapi" not in url:
            waiting += [url for url in urls_in(answer.text) if url.startswith(proxy.url)]
    assert len(seen) > 20


def test_the_templates_of_tiles_lead_to_tiles(proxy, http):
    document = http.get(f"{proxy.url}{COLLECTION}/EPSG3413Quad/tilejson.json").json()
    url = document["tiles"][0]
    for name in ("z", "x", "y"):
        url = url.replace(f"{{{name}}}", "0")
    answer = http.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert http.get(document["legend"]).status_code in {200, 404}


def test_the_location_of_a_job_is_public(proxy, http):
    body = {"bbox": [150, 65, 150.1, 65.1]}
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = http.post(f"{proxy.url}{COLLECTION}/seed", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"].startswith(f"{proxy.url}/jobs/")
    assert http.get(answer.headers["location"]).status_code == 200
    assert {link["href"].startswith(f"{proxy.url}/") for link in answer.json()["links"]} == {True}


def test_the_page_and_the_description_work_under_the_prefix(proxy, http):
    page = http.get(f"{proxy.url}/", headers={"accept": "text/html"})
    assert page.status_code == 200
    for name in re.findall(r'(?:src|href)="(?!https?:)([^"#]+)"', page.text):
        assert http.get(str(page.url.join(name))).status_code == 200, name
    docs = http.get(f"{proxy.url}/docs")
    shown = re.findall(r"""(?:src|href)=["'](/[^"']+)|url: '([^']+)'""", docs.text)
    assert len(shown) >= 3
    for found in shown:
        assert http.get(str(docs.url.join("".join(found)))).status_code == 200, found
    assert http.get(f"{proxy.url}/openapi.json").json()["servers"] == [{"url": "/icehouse"}]
    to_map = http.get(f"{proxy.url}{COLLECTION}/WebMercatorQuad/map.html")
    assert to_map.headers["location"].startswith(f"{proxy.url}/#")


def test_the_page_may_use_post_and_others_may_not(proxy, http):
    body = {"proj:code": "EPSG:3413", "proj:transform": [32, 0, 0, 0, -32, 0], "proj:shape": [1, 1]}
    own = proxy.url.removesuffix("/icehouse")
    for origin, status in ((own, 200), ("https://evil.example", 403), (f"{own}1", 403)):
        headers = {"origin": origin, "sec-fetch-site": "same-origin"}
        answer = http.post(f"{proxy.url}{COLLECTION}/plan", json=body, headers=headers)
        assert answer.status_code == status, origin


def test_the_client_loads_through_the_proxy(proxy, monkeypatch):
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda *_, **__: proxy.tls())
    monkeypatch.setenv("ICEHOUSE_TOKEN", TOKEN)
    place = proxy.daemon.place()
    with icehouse.Client(proxy.url) as client:
        assert client.collections()
        collection = client["arcticdem-32m"]
        assert collection.point(x=place.left + 3200, y=place.top - 3200, crs="EPSG:3413")


def answer_to(daemon, *headers, path="/collections"):
    """Ask the daemon itself, past the proxy: 127.0.0.1 is trusted, as a browser of this machine would be."""
    lines = [f"GET {path} HTTP/1.1", *headers, "Connection: close", f"Authorization: Bearer {TOKEN}"]
    answer = daemon.raw(("\r\n".join(lines) + "\r\n\r\n").encode()).decode()
    return int(answer.split(" ", 2)[1]), answer


def test_a_rebound_name_gains_nothing_by_forwarded_headers(named):
    daemon, good = named.daemon, f"localhost:{named.port}"
    for headers in (
        ("Host: evil.example", f"X-Forwarded-Host: {good}"),
        (f"Host: {good}", "X-Forwarded-Host: evil.example"),
        (f"Host: {good}", f"X-Forwarded-Host: {good}, evil.example"),
        (f"Host: {good}", "Forwarded: host=evil.example"),
        ("Host: evil.example", f'Forwarded: host="{good}"'),
        ("Host: evil.example", "X-Forwarded-Proto: https"),
    ):
        assert answer_to(daemon, *headers)[0] == 421, headers


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Prefix: //evil.example",
        "X-Forwarded-Prefix: /a/../b",
        "X-Forwarded-Prefix: /<script>",
        "X-Forwarded-Host: a b",
        "Forwarded: for=1.2.3.4;;",
        'Forwarded: host="',
    ],
)
def test_a_forwarded_header_that_can_not_be_read_is_refused(named, header):
    status, _ = answer_to(named.daemon, f"Host: localhost:{named.port}", header)
    assert status == 400


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        (("X-Forwarded-Proto: https",), "https://localhost:{port}"),
        (("X-Forwarded-Prefix: /a/b/",), "http://localhost:{port}/a/b"),
        (("X-Forwarded-Prefix: /collections",), "http://localhost:{port}/collections"),
        (('Forwarded: for=9.9.9.9;proto=https;host="localhost:{port}"',), "https://localhost:{port}"),
        (
            ("Forwarded: for=9.9.9.9;proto=http", "Forwarded: for=127.0.0.1;proto=https"),
            "http://localhost:{port}",
        ),
        (("X-Forwarded-For: 9.9.9.9, 8.8.8.8", "X-Forwarded-Proto: https, http"), "http://localhost:{port}"),
        (
            ("X-Forwarded-For: 9.9.9.9, 127.0.0.9", "X-Forwarded-Proto: https, http"),
            "https://localhost:{port}",
        ),
        (("X-Forwarded-Proto: https", "Forwarded: proto=http"), "https://localhost:{port}"),
    ],
)
def test_what_a_trusted_proxy_may_say(named, headers, url):
    headers = [header.replace("{port}", str(named.port)) for header in headers]
    status, answer = answer_to(named.daemon, f"Host: localhost:{named.port}", *headers)
    assert status == 200
    assert f'"href":"{url.replace("{port}", str(named.port))}/collections"' in answer


def test_anyone_else_says_nothing(daemon):
    more = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Prefix: /x"
    status, answer = answer_to(daemon, f"Host: localhost:{daemon.port}", more, "Forwarded: proto=gopher")
    assert status == 200
    assert f'"href":"http://localhost:{daemon.port}/collections"' in answer


def test_nginx_speaks_tls(proxied):
    with (
        socket.create_connection(("127.0.0.1", proxied.port)) as plain,
        proxied.tls().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}
