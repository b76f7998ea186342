"""The memory that the daemon may take, and the defaults that follow from it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from icehouse_server.core.limits import GIB, MIB, ServiceSettings, StoreSettings

_ROOT = Path("/")
_LEAST = 32 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """Memory, and what bounds it."""

    size: int
    """Bytes."""
    origin: str

    def __str__(self) -> str:
        """As people write it."""
        size = f"{self.size / GIB:.3g} GiB" if self.size >= GIB else f"{self.size / MIB:.3g} MiB"
        return f"{size}, {self.origin}"


def memory_limit(root: Path = _ROOT) -> MemoryLimit | None:
    """Return the lowest of what the machine has and what our control groups allow; None where unknown.

    Args:
        root: where ``/proc`` and ``/sys`` are.
    """
    found = [limit for limit in (*_machine(root), *_groups(root)) if limit.size > 0]
    return min(found, key=lambda limit: limit.size, default=None)


def memory_defaults(limit: MemoryLimit) -> Mapping[str, int]:
    """Return the defaults of settings that are lower for this memory: by name.

    An eighth for decoded chunks and a quarter for answers leave half for the program, for what is being
    fetched, and for the system's cache of files.
    """
    usual = {
        "decoded_cache_bytes": (StoreSettings().decoded_cache_bytes, limit.size // 8),
        "max_answer_bytes": (ServiceSettings().max_answer_bytes, max(_LEAST, limit.size // 4)),
    }
    return {name: fitting for name, (default, fitting) in usual.items() if fitting < default}


def _machine(root: Path) -> Iterator[MemoryLimit]:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                yield MemoryLimit(size=int(line.split()[1]) * 1024, origin="all that the machine has")
                return
    if root == _ROOT:
        with suppress(OSError, ValueError):  # macOS
            size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            yield MemoryLimit(size=size, origin="all that the machine has")


def _groups(root: Path) -> Iterator[MemoryLimit]:
    """Yield the limits of our control groups and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            for top in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                yield from _limits(root / top, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def _limits(top: Path, path: str, name: str) -> Iterator[MemoryLimit]:
    """Yield the limits from a group up to the top; in a container, only the top may be there."""
    group = top / path.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(top):
            return
        with suppress(OSError, ValueError):  # "max" sets none
            size = int((folder / name).read_text(encoding="ascii"))
            yield MemoryLimit(size=size, origin="the limit of the control group")
