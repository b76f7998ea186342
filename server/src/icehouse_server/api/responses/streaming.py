"""An answer made of parts that are sent as they lie in memory, with Range, HEAD and a careful end."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from icehouse_server.api.responses.problems import problem
from icehouse_server.output import FilePart, Part

_PIECE = 1 << 20
"""Bytes handed to the server at a time: its buffer stays small where a client reads slowly."""

_SMALL = 1 << 16
"""Parts below this are joined with their neighbours."""

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class PartsResponse(Response):
    """Sends buffers one after the other without joining them.

    Args:
        parts: what to send; memoryviews are sent without a copy, files are read on the way.
        length: bytes in all.
        media_type: of the answer.
        headers: further headers.
        on_end: called once when the answer is out, or will not be sent.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        length: int,
        media_type: str,
        headers: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(None, 200, dict(headers), media_type)
        self._parts = parts
        self._length = length
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, or the range of it that the request asks for."""
        try:
            wanted = self._range(Headers(scope=scope)) if scope["method"] == "GET" else None
            if wanted is not None and wanted[0] >= wanted[1]:
                refusal = problem(
                    416,
                    "range-not-satisfiable",
                    f"the answer has {self._length} bytes",
                    headers={"Content-Range": f"bytes */{self._length}"},
                )
                await refusal(scope, receive, send)
                return
            start, stop = wanted or (0, self._length)
            self.status_code = 200 if wanted is None else 206
            self.headers["accept-ranges"] = "bytes"
            self.headers["content-length"] = str(stop - start)
            if wanted is not None:
                self.headers["content-range"] = f"bytes {start}-{stop - 1}/{self._length}"
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                for piece in self._pieces(start, stop):
                    body = await asyncio.to_thread(piece) if callable(piece) else piece
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._on_end()

    def _range(self, headers: Headers) -> tuple[int, int] | None:
        """Return (start, stop) of a single byte range (RFC 9110, 14.1.2), or None where it does not apply."""
        found = _RANGE.fullmatch(headers.get("range", ""))
        if found is None or not any(found.groups()):
            return None
        if headers.get("if-range", self.headers.get("etag")) != self.headers.get("etag"):
            return None
        first, last = found.groups()
        if not first:
            return max(0, self._length - int(last)), self._length if int(last) else 0
        if last and int(last) < int(first):
            return None
        return int(first), min(self._length, int(last) + 1) if last else self._length

    def _pieces(self, start: int, stop: int) -> Iterator[bytes | memoryview | Callable[[], bytes]]:
        """Cut what is to be sent: small parts are joined, for each piece costs a call of the system.

        A piece of a file is what reads it.
        """
        place = 0
        small: list[memoryview] = []
        for part in self._parts:
            begin, end = max(start - place, 0), min(stop - place, len(part))
            place += len(part)
            if begin >= end:
                continue
            if isinstance(part, FilePart):
                if small:
                    yield b"".join(small)
                    small.clear()
                for offset in range(begin, end, _PIECE):
                    yield partial(part.read, offset, min(offset + _PIECE, end))
                continue
            view = memoryview(part).cast("B")
            if end - begin < _SMALL:
                small.append(view[begin:end])
                continue
            if small:
                yield b"".join(small)
                small.clear()
            for offset in range(begin, end, _PIECE):
                yield view[offset : min(offset + _PIECE, end)]
        if small:
            yield b"".join(small)
