"""Whether an error says that memory ran out, whichever library it comes from."""

from collections.abc import Iterator

from icehouse_server.core.errors import BusyError

_WAIT = 10.0
"""Seconds after which the system may have memory again."""

_GDAL_CLASS = "CPLE_OutOfMemoryError"
"""rasterio's, in a private module; it reaches callers as it is, or as the cause of another error."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or what caused it, is a failed allocation: Python's, NumPy's or GDAL's."""
    return any(isinstance(link, MemoryError) or type(link).__name__ == _GDAL_CLASS for link in _chain(error))


def out_of_memory(detail: str) -> BusyError:
    """Return the error of work for which the system had no memory."""
    return BusyError(detail, retry_after=_WAIT)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, each once."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
