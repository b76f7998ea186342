"""HEAD, answered wherever GET is."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEAD = "icehouse.head"


def is_head(scope: Scope) -> bool:
    """Return whether a request that looks like GET is a HEAD: its body is not read."""
    return _HEAD in scope


class HeadAsGet:
    """Answers HEAD wherever GET is answered: the same headers, no body, no Range (RFC 9110)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        as_get = {**scope, "method": "GET", "headers": headers, _HEAD: True}
        try:
            await self._app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")  # for the log, which knows the outer scope
