"""The Host check and the refusal of foreign pages."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from icehouse_server.api.access import public_url
from icehouse_server.api.responses.problems import problem
from icehouse_server.core.addresses import HostPattern, PublicUrl, host_of_address

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})
_FREE = "/healthz"
"""Answers whatever the Host: an orchestrator asks by an address of its own, and it says nothing but ok."""


class HostGuard:
    """Refuses requests for another host, against DNS rebinding, and state changes from foreign pages.

    With the port in use these count: loopback names, the name that the setting host holds, and the
    address that the connection came to. A name of an attacker can lead to that address, but the Host header
    then holds the name and not the address. Further hosts come from the settings. A host that a proxy
    forwards must be one of these as well: a page of a rebound name can write that header, too.

    Args:
        app: what is guarded.
        allowed: further hosts.
        name: what the daemon listens on, where that is a name.
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[HostPattern], name: str | None = None) -> None:
        self._app = app
        self._allowed = tuple(allowed)
        self._names = (*_LOOPBACK_NAMES, *(() if name is None else (name.lower(),)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        is_safe = scope["method"] in _SAFE_METHODS
        public = public_url(scope)
        if not (is_safe and scope["path"] == _FREE):
            named = hosts if public is None else [*hosts, public.host]
            strange = next((host for host in named if not self._answers_to(host.lower(), scope)), None)
            if len(hosts) != 1 or strange is not None:
                refusal = problem(421, "host-refused", _refused(hosts, strange), hint=_HINT)
                await refusal(scope, receive, send)
                return
        if not is_safe and not _is_own_site(headers, hosts[0], public):
            refusal = problem(
                403, "cross-site-refused", "requests from foreign pages may not use this method"
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _answers_to(self, host: str, scope: Scope) -> bool:
        address, port = scope.get("server") or (None, None)
        reached = host_of_address(address)
        names = self._names if reached is None else (*self._names, reached)
        if host in {f"{name}:{port}" for name in names}:
            return True
        if port in {80, None} and host in names:
            return True
        return any(pattern.matches(host) for pattern in self._allowed)


_HINT = (
    "use localhost or the address that the daemon listens on, or add the name to the setting allowed_hosts"
)
_LONGEST_HOST = 100


def _refused(hosts: list[str], strange: str | None) -> str:
    if len(hosts) != 1 or strange is None:
        return f"a request has one Host header, this one has {len(hosts)}"
    return f"Host: {strange[:_LONGEST_HOST]!r} is not a name of this daemon, or not with this port"


def _is_own_site(headers: Headers, host: str, public: PublicUrl | None) -> bool:
    """Return whether a request comes from no page, or from a page of this daemon."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    origin = headers.get("origin")
    own = {f"http://{host}", f"https://{host}"} | (set() if public is None else {public.origin})
    return origin is None or origin in own
