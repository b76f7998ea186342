"""The Host check and the refusal of foreign pages."""

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from icehouse_server.api.responses.problems import problem

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})


class HostGuard:
    """Refuses requests for another host, against DNS rebinding, and state changes from foreign pages.

    Loopback names count with the port in use; further hosts come from the settings, exactly as
    ``name:port``, or as ``name`` for any port.
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = frozenset(host.lower() for host in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._answers_to(hosts[0].lower(), scope):
            refusal = problem(
                421,
                "host-refused",
                "this daemon does not answer to the Host of this request",
                hint="use localhost or 127.0.0.1, or add the name to the setting allowed_hosts",
            )
            await refusal(scope, receive, send)
            return
        if scope["method"] not in _SAFE_METHODS and not _is_own_site(headers, hosts[0]):
            refusal = problem(
                403, "cross-site-refused", "requests from foreign pages may not use this method"
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _answers_to(self, host: str, scope: Scope) -> bool:
        port = (scope.get("server") or (None, None))[1]
        if host in {f"{name}:{port}" for name in _LOOPBACK_NAMES}:
            return True
        if port in {80, None} and host in _LOOPBACK_NAMES:
            return True
        return host in self._allowed or host.rsplit(":", 1)[0] in self._allowed


def _is_own_site(headers: Headers, host: str) -> bool:
    """Return whether a request comes from no page, or from a page of this daemon."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return False
    origin = headers.get("origin")
    return origin is None or origin in {f"http://{host}", f"https://{host}"}
