"""The error tree: classes by what the handler does, each with a stable, append-only ``kind``.

A ``kind`` is part of the interface: clients choose their exception by it. Statuses do not belong
here; ``api/responses/problems.py`` maps classes to HTTP statuses in one table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class IcehouseError(Exception):
    """Base of every error that Icehouse raises on purpose.

    Attributes:
        kind: stable name of the error, part of the interface.
        detail: one sentence for people: what is wrong.
        hint: what would be right, or what to do; may be empty.
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint

    def extensions(self) -> Mapping[str, object]:
        """Further members of the problem document (RFC 9457, section 3.2)."""
        return {}

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
        # Python would call the class with the message alone, which fails where further arguments are needed.
        return _blank, (type(self), self.args), self.__dict__


def _blank(kind: type[IcehouseError], args: tuple[object, ...]) -> IcehouseError:
    """Make an error without its constructor; unpickling then puts its attributes back."""
    return kind.__new__(kind, *args)


class ConfigurationError(IcehouseError):
    """A settings or collection file that can't be used; names file and key."""

    kind = "bad-configuration"


class CacheFolderLockedError(IcehouseError):
    """Another daemon owns the cache folder."""

    kind = "cache-folder-locked"


class RepositoryForeignError(IcehouseError):
    """A repository that this version did not write or can't read; it is left untouched."""

    kind = "repository-foreign"


class BadParameterError(IcehouseError):
    """A request parameter that can't be used.

    Attributes:
        parameter: its name as the caller wrote it.
    """

    kind = "bad-parameter"

    def __init__(self, parameter: str, detail: str, *, hint: str = "") -> None:
        super().__init__(detail, hint=hint)
        self.parameter = parameter

    def extensions(self) -> Mapping[str, object]:
        """The name of the parameter concerned."""
        return {"parameter": self.parameter}


class BadBodyError(BadParameterError):
    """A member of a request body that can't be used."""

    kind = "bad-body"


class UnknownError(IcehouseError):
    """Something was named that does not exist here."""

    kind = "not-found"


class UnknownCollectionError(UnknownError):
    """No collection of this name is served."""

    kind = "unknown-collection"


class UnknownBandError(UnknownError):
    """The collection has no band of this name."""

    kind = "unknown-band"


class UnknownTimeError(UnknownError):
    """No step of the collection's time axis holds what was asked for."""

    kind = "unknown-time"


class UnknownSnapshotError(UnknownError):
    """The collection's repository has no snapshot or tag of this name."""

    kind = "unknown-snapshot"


class UnknownJobError(UnknownError):
    """There is no job of this id: it was removed, or the daemon was started anew since."""

    kind = "unknown-job"


class UnknownKeyError(UnknownError):
    """The Zarr store, or the repository, has nothing under this key."""

    kind = "unknown-key"


class UnknownStyleError(UnknownError):
    """The collection has no style of this name."""

    kind = "unknown-style"


class UnknownTmsError(UnknownError):
    """There is no tile matrix set of this name."""

    kind = "unknown-tms"


class NotAcceptableError(IcehouseError):
    """None of the formats asked for can be given."""

    kind = "not-acceptable"


class TooLargeError(IcehouseError):
    """A request over a limit; says the limit.

    Attributes:
        limit: the value in force.
        asked: what the request would have needed.
        setting: the setting that holds the limit; empty where it is fixed.
    """

    kind = "too-large"

    def __init__(self, detail: str, *, limit: int, asked: int, setting: str = "", hint: str = "") -> None:
        hint = hint or f"ask for less at a time, or raise the setting {setting!r}"
        super().__init__(detail, hint=hint)
        self.limit = limit
        self.asked = asked
        self.setting = setting

    def extensions(self) -> Mapping[str, object]:
        """Limit, what was asked, and the setting's name where there is one."""
        found: dict[str, object] = {"limit": self.limit, "asked": self.asked}
        return {**found, "setting": self.setting} if self.setting else found


class OutsideError(IcehouseError):
    """The region does not touch the collection's grid."""

    kind = "outside"


class BusyError(IcehouseError):
    """A queue is full; try again.

    Attributes:
        retry_after: seconds after which a further try has a fair chance.
    """

    kind = "busy"

    def __init__(self, detail: str, *, retry_after: float) -> None:
        super().__init__(detail, hint=f"try again in {retry_after:.0f} s")
        self.retry_after = retry_after

    def extensions(self) -> Mapping[str, object]:
        """Seconds to wait, as in the Retry-After header."""
        return {"retry_after": self.retry_after}


class ShuttingDownError(BusyError):
    """The daemon is stopping."""

    kind = "shutting-down"


class FetchBudgetError(BusyError):
    """A client of the cube has had as many chunks fetched as one may in a while."""

    kind = "fetch-budget"

    def __init__(self, *, limit: int, window: float, retry_after: float) -> None:
        super().__init__(
            f"reading the cube has had {limit} chunks fetched for this client within {window:.0f} s, "
            "which is the limit",
            retry_after=retry_after,
        )
        self.limit = limit
        self.hint = (
            f"try again in {retry_after:.0f} s; have what you need fetched by seed, which has no such limit; "
            "or raise the setting 'cube_fetches'. Cached chunks cost nothing"
        )

    def extensions(self) -> Mapping[str, object]:
        """Limit and setting, and the seconds to wait."""
        return {**super().extensions(), "limit": self.limit, "setting": "cube_fetches"}


class DeadlineExceededError(IcehouseError):
    """A wait ended by its deadline."""

    kind = "deadline-exceeded"


class NotCachedError(IcehouseError):
    """The caller allowed cached chunks only, and some are absent."""

    kind = "not-cached"


class DiskFullError(IcehouseError):
    """The cache folder's disk has less room than the floor that is set, or none."""

    kind = "disk-full"


class StoreError(IcehouseError):
    """The repository could not be read or written."""

    kind = "store-failed"


class SourceError(IcehouseError):
    """A source could not give what was asked.

    Attributes:
        item: id of the item concerned, or an empty string.
        href: where it was asked for, without query and credentials, or an empty string.
    """

    kind = "source-failed"

    def __init__(self, detail: str, *, item: str = "", href: str = "", hint: str = "") -> None:
        super().__init__(detail, hint=hint)
        self.item = item
        self.href = href

    def extensions(self) -> Mapping[str, object]:
        """Item and href, where known."""
        return {name: value for name, value in (("item", self.item), ("href", self.href)) if value}


class SourceUnavailableError(SourceError):
    """Transient: worth another try, after ``retry_after`` seconds where the source said so."""

    kind = "source-unavailable"

    def __init__(
        self, detail: str, *, item: str = "", href: str = "", hint: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(detail, item=item, href=href, hint=hint)
        self.retry_after = retry_after


class SourceTimeoutError(SourceUnavailableError):
    """Transient: the source did not answer within its deadline."""

    kind = "source-timeout"


class SourceRefusedError(SourceError):
    """Permanent: credentials, or not found where it must exist."""

    kind = "source-refused"


class SourceCorruptError(SourceError):
    """Permanent: what arrived is not what the collection promises, or does not decode."""

    kind = "source-corrupt"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedChunk:
    """One chunk that could not be filled, and why."""

    chunk: str
    """The chunk's key in its repository, such as ``dem/c/120/7``."""
    kind: str
    """The stable kind of the error."""
    detail: str
    """What went wrong, for people."""
    item: str = ""
    """Id of the item concerned, where known."""
    hint: str = ""
    """What could be done about it, for people, where known."""


class ChunksFailedError(IcehouseError):
    """Chunks that a request needs could not be filled.

    Attributes:
        failed: what failed, in the order of the plan.
        timed_out: True when every failure is one of time (answered with 504 instead of 502).
        remedy: what brings the chunks, for people.
    """

    kind = "chunks-failed"

    def __init__(self, failed: Sequence[FailedChunk]) -> None:
        first = failed[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        self.remedy = _remedy(failed)
        super().__init__(
            f"{len(failed)} of the chunks that this request needs could not be filled. "
            f"{first.chunk}{more}: {first.detail}",
            hint=f"{self.remedy}, or pass fail_on_error=false to get the failed area as nodata",
        )
        self.failed = tuple(failed)
        self.timed_out = all(
            entry.kind in {SourceTimeoutError.kind, DeadlineExceededError.kind} for entry in failed
        )

    def extensions(self) -> Mapping[str, object]:
        """The failed chunks, at most a hundred of them, and what brings them."""
        listed = [
            {"chunk": entry.chunk, "kind": entry.kind, "detail": entry.detail, "item": entry.item}
            for entry in self.failed[:100]
        ]
        return {"chunks": listed, "failed": len(self.failed), "remedy": self.remedy}


def _remedy(failed: Sequence[FailedChunk]) -> str:
    """Return what to do about failures: time heals those that are not permanent."""
    if any(entry.kind not in {SourceRefusedError.kind, SourceCorruptError.kind} for entry in failed):
        return "try again later"
    return failed[0].hint or "have the source or the collection file put right: the same will fail again"
