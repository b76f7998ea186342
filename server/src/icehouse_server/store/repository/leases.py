"""Leases: readers are pinned to a snapshot, and nothing that it needs is collected meanwhile."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import icechunk

from icehouse_server.core.errors import UnknownSnapshotError
from icehouse_server.store.repository.decoded import DecodedCache
from icehouse_server.store.repository.head import Head
from icehouse_server.store.repository.pins import Pins
from icehouse_server.store.translate_errors import UNREADABLE, translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A pinned view of a repository. While it is held, nothing that its snapshot needs is collected."""

    snapshot: str
    session: icechunk.Session
    generation: int
    """Generation of the decoded-chunk cache when the lease began."""
    current: bool
    """True when it was the latest snapshot as the lease began: the cache of decoded chunks speaks of it while
    the generation stays the same."""


class Leases:
    """The leases of one repository.

    Attributes:
        pins: snapshots that readers of the repository's files may be reading; they hold no lease.
        history: held by whoever looks up a past snapshot or lets snapshots expire.
    """

    def __init__(self, head: Head, decoded: DecodedCache) -> None:
        self._head = head
        self._decoded = decoded
        self._held: Counter[str] = Counter()
        self.pins = Pins()
        self.history = asyncio.Lock()

    @property
    def count(self) -> int:
        """Leases held."""
        return self._held.total()

    @asynccontextmanager
    async def lease(self, snapshot: str | None = None) -> AsyncIterator[Lease]:
        """Pin the latest snapshot, or one that is named (by id or tag).

        Raises:
            UnknownSnapshotError: there is none of this name.
        """
        if snapshot is None:
            lease = self._take(self._head.session)
        else:
            async with self.history:  # what is found must not expire before it is pinned
                lease = self._take(await self._past(snapshot))
        try:
            yield lease
        finally:
            self._held[lease.snapshot] -= 1
            self._held += Counter()  # drops the zeros

    def is_of_now(self, lease: Lease) -> bool:
        """Return whether no chunk was written again, or deleted, since a lease began."""
        return lease.generation == self._decoded.generation

    def _take(self, session: icechunk.Session) -> Lease:
        self._held[session.snapshot_id] += 1
        return Lease(
            snapshot=session.snapshot_id,
            session=session,
            generation=self._decoded.generation,
            current=session.snapshot_id == self._head.snapshot,
        )

    async def _past(self, name: str) -> icechunk.Session:
        repository = self._head.repository
        with translate_errors(UNREADABLE):
            try:
                if name in await repository.list_tags_async():
                    return await repository.readonly_session_async(tag=name)
                return await repository.readonly_session_async(snapshot_id=name)
            except (icechunk.NotFoundError, icechunk.InvalidInputError) as error:
                raise UnknownSnapshotError(
                    f"collection {self._head.spec.id!r} has no snapshot or tag {name!r}",
                    hint=f"the latest snapshot is {self._head.snapshot}",
                ) from error

    async def held_since(self) -> list[datetime]:
        """Return when the snapshots were written that are held, except the latest: it never expires.

        Must be called while holding ``history``.
        """
        repository = self._head.repository
        names = [name for name in self._held if name != self._head.snapshot]
        times = [(await repository.lookup_snapshot_async(name)).written_at for name in names]
        for name in self.pins.held():
            with suppress(icechunk.NotFoundError, icechunk.InvalidInputError):  # one that had expired already
                times.append((await repository.lookup_snapshot_async(name)).written_at)
        return times
