"""What an encoder gives back, and what a format is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from icehouse_server.core.coverage import Coverage
from icehouse_server.core.plan import Region
from icehouse_server.output.scratch import FilePart, Scratch

type Part = bytes | memoryview | FilePart
"""Memoryviews are of single bytes and C-contiguous; they keep the arrays that they show alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """The bytes of an answer, in parts that are sent one after the other and never joined."""

    media_type: str
    suffix: str
    """Ending of a file's name, with its dot."""
    parts: Sequence[Part]
    length: int = field(init=False)
    """Bytes in all, for Content-Length."""

    @property
    def memory(self) -> int | None:
        """Bytes of memory that the parts take; None where they show the coverage's own arrays."""
        if any(isinstance(part, memoryview) for part in self.parts):
            return None
        return sum(len(part) for part in self.parts if isinstance(part, bytes))

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", sum(len(part) for part in self.parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format that a coverage can be had in."""

    name: str
    """What ``f=`` takes."""
    media_type: str
    """What Content-Type says, parameters included."""
    suffix: str
    aliases: tuple[str, ...]
    """Media types without parameters that clients also ask for it by."""
    encoder: Callable[[Coverage, Scratch], Sequence[Part]]
    memory: Callable[[Region, Scratch], int]
    """Bytes that the encoder takes at most, in addition to the pixels, until all parts are sent."""
    ogc_type: str = ""
    """The one of them that OGC API Coverages asks for: who names it gets an answer of that type."""

    lacks: frozenset[str] = frozenset()
    """Dtypes of bands that it does not hold."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every media type that names this format, without parameters, lower case."""
        named = (self.media_type.partition(";")[0].strip(), *self.aliases, self.ogc_type)
        return tuple(name for name in named if name)

    def type_for(self, accept: str | None) -> str:
        """Return what Content-Type says to a caller with this Accept header."""
        asked = {part.partition(";")[0].strip().lower() for part in (accept or "").split(",")}
        own = {self.accepted[0], "*/*"} & asked
        return self.ogc_type if self.ogc_type and self.ogc_type in asked and not own else self.media_type
