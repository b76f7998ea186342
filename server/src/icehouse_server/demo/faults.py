"""Scripted faults: which requests of a server go wrong, how, and how often; `harness` acts on them."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from icehouse_server.demo.object_builder import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Answer with an error status."""

    status: int
    body: Literal["xml", "html", "json", "google"] = "xml"
    retry_after: str | None = None
    message: str | None = None
    """What a body of Google's form says; "Service error" if nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Answer 200 with an HTML page, as captive portals and maintenance pages do."""

    text: str = "<html><body>Down for maintenance</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Reset the connection before the headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Promise the whole body, send this part of it, close the connection."""

    part: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Fall silent for some seconds, then go on. Other faults, and a reset, end it before."""

    seconds: float
    where: Literal["headers", "body"] = "headers"
    """Before the headers, or in the middle of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """Send the body one byte at a time."""

    interval: float = 1.0
    """Seconds between bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garble:
    """Send the right number of bytes, but zeros in the second half of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Serve another variant of the file, with another ETag (object store only)."""

    variant: Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Send the client elsewhere."""

    location: str
    status: int = 307


type Action = Status | Page | Drop | Cut | Stall | Drip | Garble | Replace | Redirect

_ACTIONS: Final[dict[str, type[Any]]] = {
    action.__name__.lower(): action
    for action in (Status, Page, Drop, Cut, Stall, Drip, Garble, Replace, Redirect)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with which requests."""

    action: Action
    path: str = "*"
    """Pattern (`*`, `?`, `[...]`) of the URL's path, such as "*_dem.tif" or "/api/v1/search"."""
    method: str | None = None
    """Only requests of this method."""
    min_offset: int = 0
    """Only requests for bytes from here on: 1 spares the header of a raster."""
    after: int = 0
    """Let this many matching requests pass first."""
    times: int | None = 1
    """Then spoil this many; None for all that follow."""

    def matches(self, method: str, path: str, offset: int) -> bool:
        """True if the fault is about such a request."""
        right_method = self.method is None or self.method == method
        return right_method and offset >= self.min_offset and fnmatch.fnmatchcase(path, self.path)

    def to_json(self) -> dict[str, Any]:
        """For the control endpoint."""
        return asdict(self) | {"action": {"kind": type(self.action).__name__.lower(), **asdict(self.action)}}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Fault:
        """The reverse of `to_json`.

        Raises:
            ValueError: if the document says something unknown.
        """
        action = dict(document.get("action", {}))
        kind = _ACTIONS.get(str(action.pop("kind", "")))
        if kind is None:
            raise ValueError(f"a fault needs an action, one of {sorted(_ACTIONS)}")
        if kind is Replace:
            action["variant"] = Variant(**action["variant"])
        unknown = set(document) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no {sorted(unknown)}")
        return cls(**{**document, "action": kind(**action)})


class Script:
    """The faults in force, in order: the first that is due takes a request. Used in the event loop only."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self._replaced = asyncio.Event()

    def load(self, faults: list[Fault]) -> None:
        """Replace the script and begin to count anew; what stalls goes on."""
        self._faults, self._seen = list(faults), [0] * len(faults)
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def stall(self, seconds: float) -> None:
        """Wait so long, or until the script is replaced."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._replaced.wait(), seconds)

    def take(self, method: str, path: str, offset: int) -> Action | None:
        """What is to go wrong with this request; counts it."""
        for index, fault in enumerate(self._faults):
            if not fault.matches(method, path, offset):
                continue
            self._seen[index] += 1
            due = self._seen[index] > fault.after
            if due and (fault.times is None or self._seen[index] <= fault.after + fault.times):
                return fault.action
        return None
