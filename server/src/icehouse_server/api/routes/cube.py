"""The collections as Zarr stores: ``cube.zarr`` fills itself, ``cached.zarr`` has what is there.

Beside them ``icechunk/``: the repository's own files.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import WithJsonSchema

from icehouse_server.api.observability.request_context import context_of
from icehouse_server.api.openapi import schemas
from icehouse_server.api.parameters.conditional import (
    etag_known,
    if_match_fails,
    only_if_cached,
    precondition_failed,
)
from icehouse_server.api.parameters.unknown_parameters import LENIENT
from icehouse_server.api.responses.cache_status import cache_status, cache_word
from icehouse_server.api.responses.disconnect import while_connected
from icehouse_server.api.responses.problems import of_error
from icehouse_server.api.responses.streaming import PartsResponse
from icehouse_server.api.state import Spec, State
from icehouse_server.core.errors import IcehouseError, UnknownKeyError
from icehouse_server.service import StoreEntry, Trace

router = APIRouter(tags=["zarr"], dependencies=[LENIENT])

_OCTETS = "application/octet-stream"
_GDAL = "GDAL/"
"""How GDAL's User-Agent begins, unless GDAL_HTTP_USERAGENT sets another."""

_HEADERS: dict[str, object] = {
    "ETag": {
        "description": "Of the content alone.",
        "schema": {"type": "string", "pattern": '^"[0-9a-f-]+"$'},
    },
    "Cache-Control": {"description": "Ask again by ETag.", "schema": {"type": "string"}},
    "Accept-Ranges": {"description": "Single ranges of bytes.", "schema": {"type": "string"}},
}
_CONTENT = {_OCTETS: {"schema": schemas.BINARY}}
_DOCUMENT = {"application/json": {"schema": {"type": "object"}}}


def _statuses(
    said: str, *, document: bool = True, filling: bool = False
) -> dict[int | str, dict[str, object]]:
    content = {**_CONTENT, **_DOCUMENT} if document else _CONTENT
    refused = (429, *schemas.FILLING) if filling else (503, 504)
    return {
        200: {"description": said, "content": content, "headers": _HEADERS},
        206: {"description": "The range of it that was asked for.", "content": content, "headers": _HEADERS},
        304: {"description": "The caller's copy is good."},
        412: {},
        416: {},
        **{status: {} for status in refused},
    }


_CUBE = """The whole collection as one Zarr v3 store with consolidated metadata: every level, every time step.
Chunks are sent as they are stored. An absent one is fetched first; one that can't be fetched is an error,
never 404, which Zarr reads as the fill value. `cube_fetches` bounds what one client has fetched: 429."""

_CACHED = """The same store with cached chunks alone: one that is absent is 404, which Zarr reads as the fill
value."""

_FILES = """The files of the collection's repository, for `icechunk.http_storage`. What its reader reads is
kept from garbage collection for ten minutes after the last request, an hour at most."""

Key = Annotated[
    str,
    Path(description="Key of the store, such as `zarr.json` or `dem/c/120/7`."),
    WithJsonSchema({"type": "string", "examples": ["zarr.json", "dem/zarr.json", "y/c/0"]}),
]
FilePath = Annotated[
    str,
    Path(description="Path in the repository, as Icechunk asks for it."),
    WithJsonSchema({"type": "string", "examples": ["repo"]}),
]


@router.get(
    "/collections/{collection}/cube.zarr/{key:path}",
    description=_CUBE,
    responses=_statuses("A document or a chunk.", filling=True),
    response_class=Response,
)
async def get_cube_entry(request: Request, state: State, spec: Spec, key: Key) -> Response:
    """A key of the collection's Zarr store, which fills itself."""
    client = request.client.host if request.client else ""
    note = context_of(request.scope)
    note.trace = Trace()
    cached = only_if_cached(request)
    work = state.cubes.entry(spec, key, client=client, trace=note.trace, only_if_cached=cached)
    try:
        return _answer(request, await while_connected(request, work))
    except UnknownKeyError:
        raise
    except IcehouseError as error:
        if request.headers.get("user-agent", "").startswith(_GDAL):
            return _undecodable(error)
        raise


@router.get(
    "/collections/{collection}/cached.zarr/{key:path}",
    description=_CACHED,
    responses=_statuses("A document or a chunk."),
    response_class=Response,
)
async def get_cached_entry(request: Request, state: State, spec: Spec, key: Key) -> Response:
    """A key of the Zarr store of what is cached."""
    note = context_of(request.scope)
    note.trace = Trace()
    return _answer(request, await state.cubes.cached_entry(spec, key, trace=note.trace))


@router.get(
    "/collections/{collection}/icechunk/{path:path}",
    description=_FILES,
    responses=_statuses("The file.", document=False),
    response_class=Response,
)
async def get_repository_file(request: Request, state: State, spec: Spec, path: FilePath) -> Response:
    """A file of the collection's repository."""
    return _answer(request, await state.cubes.file(spec, path))


def _undecodable(error: IcehouseError) -> Response:
    """Answer GDAL, whose Zarr driver takes every error status for nodata (3.12), with what it can't decode.

    A problem document begins with a brace, which no Blosc frame does: the driver fails on it, as it must.
    """
    answer = of_error(error)
    answer.status_code = 200
    return answer


def _answer(request: Request, entry: StoreEntry) -> Response:
    """Send an entry, the range of it that is asked for, or 304."""
    headers = {"ETag": entry.tag, "Cache-Control": "no-cache"}
    if if_match_fails(request, entry.tag):
        entry.close()
        raise precondition_failed(entry.tag)
    if etag_known(request, entry.tag):
        entry.close()
        return Response(status_code=304, headers=headers)
    if entry.trace is not None:
        note = context_of(request.scope)
        note.format, note.cache = "chunk", cache_word(entry.trace, incomplete=False)
        headers["Cache-Status"] = cache_status(entry.trace, incomplete=False)
    return PartsResponse(
        [entry.data],
        length=len(entry.data),
        media_type="application/json" if entry.is_document else _OCTETS,
        headers=headers,
        on_end=entry.close,
    )
