"""``/page/{name}``: the files of the page for people, as they were built into the package."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Scope

from icehouse_server.api.parameters.conditional import etag_known, if_match_fails, precondition_failed

router = APIRouter()

_INDEX = "index.html"
_FILES = "/page/"
_SECURITY = {
    # Styles are set through the DOM's own properties, which needs no 'unsafe-inline'.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
"""Not those of the machine: what mimetypes says depends on what is installed there."""
_FOR_EVER = "public, max-age=31536000, immutable"
"""A file's name changes with its content."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page."""

    content: bytes = field(repr=False)
    media_type: str
    tag: str
    """Its entity tag."""


@dataclass(frozen=True, slots=True)
class Page:
    """The built page."""

    index: PageFile | None
    """None where it was not built."""
    files: Mapping[str, PageFile]
    """The others, by name."""

    @classmethod
    def read(cls, folder: Traversable) -> Self:
        """Read the page that was built into a folder; a build that did not come to its end is none."""
        if not (folder / _INDEX).is_file():
            return cls(None, {})
        files = {entry.name: _read(entry) for entry in folder.iterdir() if entry.is_file()}
        return cls(files.pop(_INDEX), files)

    def answers(self, scope: Scope) -> bool:
        """Tell whether a request is answered with a file of the page, which holds no data of anybody."""
        path: str = scope["path"]
        if path == "/":
            return self.index is not None and wants_html(scope)
        return path.startswith(_FILES) and path.removeprefix(_FILES) in self.files


def wants_html(scope: Scope) -> bool:
    """Tell whether a browser asks for something to look at: by ``f``, else by ``Accept``."""
    wanted = QueryParams(scope["query_string"]).get("f")
    return wanted == "html" if wanted is not None else "text/html" in Headers(scope=scope).get("accept", "")


def built_page(request: Request) -> Page:
    """Return the page that the application has."""
    page = request.app.state.page
    if not isinstance(page, Page):
        raise TypeError("the application was not put together by create_api")
    return page


BuiltPage = Annotated[Page, Depends(built_page)]


def index_answer(request: Request, index: PageFile) -> Response:
    """Answer with the page itself, which is asked for anew each time."""
    return _answer(request, index, {"Cache-Control": "no-cache", "Vary": "Accept"})


@router.get(_FILES + "{name}", include_in_schema=False)
async def get_page_file(request: Request, page: BuiltPage, name: str) -> Response:
    """A file of the page."""
    if name not in page.files:
        raise HTTPException(404, "the page has no such file")
    return _answer(request, page.files[name], {"Cache-Control": _FOR_EVER})


def _answer(request: Request, file: PageFile, headers: Mapping[str, str]) -> Response:
    headers = {**headers, **_SECURITY, "ETag": file.tag}
    if if_match_fails(request, file.tag):
        raise precondition_failed(file.tag)
    if etag_known(request, file.tag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _read(entry: Traversable) -> PageFile:
    content = entry.read_bytes()
    media_type = _MEDIA_TYPES.get(PurePath(entry.name).suffix, "application/octet-stream")
    return PageFile(content, media_type, f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"')
