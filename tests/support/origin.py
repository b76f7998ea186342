"""A small HTTP server in a thread that says what a test puts into its mouth, and writes down who asked."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is answered to a path. A ``Range`` header is honoured where the status is 200."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Origin:
    """The server, running."""

    url: str
    """Such as ``http://127.0.0.1:4711``, without a slash at the end."""
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    """Path to what is answered, one after the other; the last one for ever. 404 for other paths."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with query of every request, in the order they came."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Self]:
        """Serve on a free port of the loopback until the block ends."""
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
            server.daemon_threads = True
            origin = cls(url=f"http://127.0.0.1:{server.server_port}")
            server.origin = origin  # type: ignore[attr-defined]  # how handlers reach it
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield origin
            finally:
                server.shutdown()
                thread.join()

    @property
    def host(self) -> str:
        """``127.0.0.1:port``."""
        return self.url.removeprefix("http://")

    def say(self, path: str, *replies: Reply | bytes) -> None:
        """Set what is answered to a path."""
        self.replies[path] = [
            reply if isinstance(reply, Reply) else Reply(body=reply, headers={"ETag": f'"{hash(reply):x}"'})
            for reply in replies
        ]

    def take(self, method: str, target: str) -> Reply:
        """Write a request down and return its answer."""
        with self._lock:
            self.asked.append((method, target))
            replies = self.replies.get(unquote(urlsplit(target).path))
            if not replies:
                return Reply(status=404, body=b"{}")
            return replies.pop(0) if len(replies) > 1 else replies[0]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:  # the name is http.server's
        origin: Origin = self.server.origin  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        reply = origin.take(self.command, self.path)
        status, body, headers = reply.status, reply.body, dict(reply.headers)
        if status == http.HTTPStatus.OK and (asked := _RANGE.fullmatch(self.headers.get("Range", ""))):
            first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
            status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{len(body)}"
            if first >= len(body):
                status, headers["Content-Range"] = 416, f"bytes */{len(body)}"
            body = body[first : last + 1]
            if "If-Match" in self.headers and self.headers["If-Match"] != headers.get("ETag"):
                status, body = 412, b""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have heard enough
            self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as above
