"""What goes wrong with a cache at work: its source, its disk, and its files between two lives."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from icehouse_server.core.errors import SourceCorruptError, SourceUnavailableError
from support.cache import Cache
from support.faulty import Calls, Failing, storage_error
from support.ledger import DAMAGED, stored_versions

SOURCE_ERRORS: Mapping[str, Callable[[], Exception]] = {
    "corrupt": lambda: SourceCorruptError("it does not decode", item="scene"),
    "away": lambda: SourceUnavailableError("503", item="scene"),
    "surprise": lambda: ValueError("surprise"),
}
"""What a source may raise."""

_HANGS = "a disk that hangs"
_PATIENCE = 0.02
"""Seconds that a commit may take where the disk hangs."""

TROUBLES: Mapping[str, Callable[[int], Failing]] = {
    "a full disk": lambda n: Failing(kind="set", first=n, forever=True, error=lambda: storage_error(28)),
    "a full disk at a commit": lambda n: Failing(kind="commit", first=n, error=lambda: storage_error(28)),
    "a commit's answer lost": lambda n: Failing(
        kind="commit", first=n, late=True, error=lambda: storage_error(5)
    ),
    "all commits' answers lost": lambda _: Failing(
        kind="commit", first=1, forever=True, late=True, error=lambda: storage_error(5)
    ),
    "no session": lambda n: Failing(kind="session", first=n, error=lambda: storage_error(24)),
    "a slow disk": lambda n: Failing(kind="commit", first=1, forever=True, delay=0.004 * n),
    _HANGS: lambda n: Failing(kind="commit", first=n, delay=0.12),
}
"""What the disk may do; the number says which call is struck first, or how slow it is."""


@contextmanager
def trouble(cache: Cache, name: str, number: int) -> Iterator[None]:
    """Let the disk be in one of ``TROUBLES``."""
    with Calls(cache.store.folder) as calls, ExitStack() as stack:
        calls.reset(TROUBLES[name](number))
        for collection in cache.collections.values() if name == _HANGS else ():
            writer = collection.writer
            stack.callback(setattr, writer, "_timeout", writer._timeout)
            writer._timeout = _PATIENCE
        yield


async def spoil_chunk(
    cache: Cache, name: str, which: float, where: float, *, cut: bool, decoded: bool
) -> bool:
    """Flip a bit of a chunk file, or cut it; return whether there was one.

    Args:
        cache: is open.
        name: of the collection.
        which: of its files, as a share: how many there are is not the same in each run.
        where: in the file, as a share of its length.
        cut: the file ends there; otherwise a bit is flipped.
        decoded: what is decoded stays so.
    """
    collection, ledger = cache.collections[name], cache.ledgers[name]
    files = sorted(path for path in (collection.folder / "chunks").glob("*") if path.stat().st_size)
    if not files:
        return False
    path = files[int(which * len(files))]
    held = bytearray(path.read_bytes())
    place = int(where * len(held))
    held[place] ^= 1 << (place % 8)
    draft = path.with_suffix(".spoilt")
    draft.write_bytes(held[:place] if cut else held)
    draft.replace(path)
    if not decoded:
        cache.store.decoded.drop(tuple(ledger.stored))
    found = await stored_versions(collection, ledger.truth)
    ledger.damaged |= {key for key, versions in found.items() if versions == DAMAGED}
    return True


def spoil_notes(folder: Path, how: str) -> None:
    """Lose the file of notes, cut it, or fill it with garbage; any other word keeps it."""
    notes = folder / "notes.sqlite"
    match how:
        case "lost":
            notes.unlink()
        case "cut":
            notes.write_bytes(notes.read_bytes()[:5000])
        case "garbage":
            notes.write_bytes(b"this is not a file of SQLite's" * 500)
