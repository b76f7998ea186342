"""Behind a proxy: under which URL a client reached it, and which client that is.

What a request says of itself in ``Forwarded`` (RFC 7239) or ``X-Forwarded-*`` counts only where it comes from
a proxy that the settings name: anyone can write these headers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from icehouse_server.api.access import Access, public_url, put_public_url
from icehouse_server.api.responses.problems import problem
from icehouse_server.core.addresses import Network, PublicUrl, is_within, normal_host, parse_prefix

_PAIR = re.compile(r'\s*([A-Za-z-]{1,20})=(?:"((?:[^"\\]|\\.)*)"|([^",;\s]*))\s*([;,]|$)')
_NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?")
_LONGEST_CLIENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """What one proxy says of the request that it got."""

    client: str = ""
    scheme: str = ""
    host: str = ""


class ForwardedHeaders:
    """Notes the URL under which the client reached the daemon, and the client's own address.

    The setting ``public_url`` outweighs what proxies say of the URL.
    """

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._public_url = access.public_url
        self._trusted = access.trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            if self._public_url is not None:
                put_public_url(scope, self._public_url)
            client = scope.get("client")
            if client is not None and is_within(client[0], self._trusted):
                try:
                    self._take(scope, Headers(scope=scope))
                except ValueError as error:
                    await problem(400, "bad-request", f"a forwarded header: {error}")(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _take(self, scope: Scope, headers: Headers) -> None:
        hop = _furthest(_hops(headers), self._trusted)
        if hop.client:
            scope["client"] = (_address_of(hop.client), 0)
        if self._public_url is not None:
            return
        scheme = hop.scheme.lower() or scope["scheme"]
        if scheme not in {"http", "https"}:
            raise ValueError(f"{scheme[:20]!r} is neither http nor https")
        prefix = parse_prefix((_values(headers, "x-forwarded-prefix") or [""])[-1])
        host = hop.host or headers.get("host", "")
        if hop.host or hop.scheme or prefix:
            put_public_url(scope, PublicUrl(scheme=scheme, host=normal_host(host, scheme), prefix=prefix))


class UnderPrefix:
    """Shows the router the prefix that a proxy took away, as ASGI has it: in ``root_path`` and ``path``.

    It comes after whatever looks at paths: guards and log see the daemon's own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        url = public_url(scope)
        if scope["type"] != "http" or url is None or not url.prefix:
            await self._app(scope, receive, send)
            return
        under = {**scope, "root_path": url.prefix, "path": f"{url.prefix}{scope['path']}"}
        try:
            await self._app(under, receive, send)
        finally:
            scope["route"] = under.get("route")  # for the log, which knows the outer scope


def _hops(headers: Headers) -> Sequence[_Hop]:
    """Return what proxies say, in the order of the headers: the nearest proxy wrote the last."""
    clients, schemes, hosts = (_values(headers, f"x-forwarded-{name}") for name in ("for", "proto", "host"))
    if not clients and not schemes and not hosts:
        return tuple(_of_forwarded(",".join(headers.getlist("forwarded"))))
    count = max(len(clients), 1)
    return [
        _Hop(client=client, scheme=_at(schemes, number, count), host=_at(hosts, number, count))
        for number, client in enumerate(clients or [""])
    ]


def _at(values: Sequence[str], number: int, count: int) -> str:
    """Return the value of a hop; where not every proxy added one, the last is that of the nearest."""
    return values[number] if len(values) == count else values[-1] if values else ""


def _values(headers: Headers, name: str) -> list[str]:
    return [part for value in headers.getlist(name) for word in value.split(",") if (part := word.strip())]


def _of_forwarded(text: str) -> Iterator[_Hop]:
    """Read ``Forwarded`` (RFC 7239).

    Raises:
        ValueError: it can't be read.
    """
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        pair = _PAIR.match(text, place)
        if pair is None:
            raise ValueError(f"Forwarded: {text[place : place + 40]!r} is not name=value")
        name, quoted, plain, end = pair.groups()
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        place = pair.end()
        if end != ";":
            yield _Hop(client=found.get("for", ""), scheme=found.get("proto", ""), host=found.get("host", ""))
            found = {}
        elif place == len(text):
            raise ValueError("Forwarded: it ends with a semicolon")


def _furthest(hops: Sequence[_Hop], trusted: Sequence[Network]) -> _Hop:
    """Return what the furthest trusted proxy says: what came before it, its client wrote."""
    for hop in reversed(hops):
        if not is_within(_address_of(hop.client), trusted):
            return hop
    return hops[0] if hops else _Hop()


def _address_of(node: str) -> str:
    """Return the address of ``192.0.2.1:4711`` or ``[2001:db8::1]:4711``; else the text itself."""
    found = _NODE.fullmatch(node)
    return node[:_LONGEST_CLIENT] if found is None else found[1] or found[2]
