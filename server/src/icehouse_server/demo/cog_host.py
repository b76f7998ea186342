"""A stand-in for the object store that holds the rasters: HEAD, GET, one Range, ETags, S3's errors in XML.

Objects are found by key (`/arcticdem/mosaics/...`), and below the bucket's name too, for clients that
speak S3's path style.
"""

from __future__ import annotations

import email.utils
import re
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from icehouse_server.demo.harness import VARIANT, error_body
from icehouse_server.demo.object_builder import NoSuchKeyError, Variant
from icehouse_server.demo.pgc import BUCKET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

    from icehouse_server.demo.object_builder import Builder

_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Objects:
    """Keys to files, through worker threads: two builds at a time, and nothing on the event loop."""

    def __init__(self, builder: Builder) -> None:
        self.variants: dict[str, Variant] = {}
        """Files that lie, by key."""
        self._builder = builder
        self._limiter = anyio.CapacityLimiter(2)
        self._known: dict[tuple[str, Variant], Path] = {}

    async def find(self, key: str, variant: Variant | None = None) -> Path:
        """The file of a key, built if need be.

        Raises:
            NoSuchKeyError: if there is no such object.
        """
        wanted = key, variant or self.variants.get(key, Variant())
        if wanted not in self._known:
            path = await anyio.to_thread.run_sync(self._builder.path, *wanted, limiter=self._limiter)
            self._known[wanted] = path
        return self._known[wanted]

    async def prepare(self, keys: list[str]) -> dict[str, int]:
        """Build files now; their sizes in bytes."""
        found: dict[str, int] = {}

        async def one(key: str) -> None:
            found[key] = (await self.find(key)).stat().st_size

        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(one, key)
        return found


def create_cog_app(objects: Objects) -> Starlette:
    """The object store."""
    app = Starlette(routes=[Route("/{key:path}", serve_object, methods=["GET", "HEAD"])])
    app.state.objects = objects
    return app


async def serve_object(request: Request) -> Response:
    """One object, or a part of it."""
    key = str(request.path_params["key"]).removeprefix(f"{BUCKET}/")
    if not key or key.endswith("/"):
        return _error(403)
    try:
        path = await request.app.state.objects.find(key, request.scope.get(VARIANT))
    except NoSuchKeyError:
        return _error(404)
    facts = path.stat()
    headers = {
        "accept-ranges": "bytes",
        "etag": f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"',
        "last-modified": email.utils.formatdate(facts.st_mtime, usegmt=True),
    }
    span = _span(request.headers.get("range"), facts.st_size)
    if span is None:
        return _error(416, {"content-range": f"bytes */{facts.st_size}"})
    first, last = span
    status = 200
    if request.headers.get("range") is not None and _RANGE.fullmatch(request.headers["range"]):
        status, headers["content-range"] = 206, f"bytes {first}-{last}/{facts.st_size}"
    headers["content-length"] = str(last - first + 1)
    media = "text/plain" if key.endswith(".txt") else "image/tiff"
    if request.method == "HEAD":
        return Response(None, status, headers, media)
    return StreamingResponse(_pieces(path, first, last - first + 1), status, headers, media)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte to send: all for a header that isn't one plain range, None for a range outside."""
    match = _RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return 0, size - 1
    if not match[1]:
        return (max(size - int(match[2]), 0), size - 1) if int(match[2]) > 0 else None
    first, last = int(match[1]), min(int(match[2] or size), size - 1)
    return (first, last) if first <= last else None


async def _pieces(path: Path, start: int, size: int) -> AsyncIterator[bytes]:
    """The bytes, read in the event loop: local and just written, they come from the page cache."""
    with path.open("rb") as file:
        file.seek(start)
        while size > 0:
            piece = file.read(min(_PIECE, size))
            size -= len(piece)
            yield piece


def _error(status: int, headers: dict[str, str] | None = None) -> Response:
    media, text = error_body(status, "xml")
    return Response(text, status, headers, media)
