"""The memory of machine and control groups, and the defaults that follow."""

from __future__ import annotations

import pytest

from icehouse_server.settings import load_settings
from icehouse_server.settings.memory import MemoryLimit, memory_defaults, memory_limit

GIB = 1024**3
MACHINE = {"proc/meminfo": f"MemTotal:       {8 * GIB // 1024} kB\nMemFree: 1 kB\n"}
V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:cpu,memory:/docker/x\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "size", "origin"),
    [
        (MACHINE, 8 * GIB, "machine"),
        (MACHINE | V2 | {"sys/fs/cgroup/a/b/memory.max": "max\n"}, 8 * GIB, "machine"),
        (MACHINE | V2 | {"sys/fs/cgroup/a/b/memory.max": f"{GIB}\n"}, GIB, "control group"),
        (MACHINE | V2 | {"sys/fs/cgroup/a/memory.max": f"{GIB}\n"}, GIB, "control group"),
        (MACHINE | V2 | {"sys/fs/cgroup/memory.max": f"{9 * GIB}\n"}, 8 * GIB, "machine"),
        (MACHINE | V1 | {"sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "5000"}, 5000, "group"),
        (MACHINE | V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "5000"}, 5000, "group"),
        (MACHINE | V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096)}, 8 * GIB, "mach"),
        (MACHINE | {"proc/self/cgroup": "nonsense\n"}, 8 * GIB, "machine"),
    ],
)
def test_the_lowest_limit_counts(tmp_path, files, size, origin):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = memory_limit(tmp_path)
    assert found.size == size
    assert origin in str(found)


def test_nothing_known_is_no_limit(tmp_path):
    assert memory_limit(tmp_path) is None


def test_defaults_are_lowered_and_never_raised():
    assert memory_defaults(MemoryLimit(size=64 * GIB, origin="")) == {}
    found = memory_defaults(MemoryLimit(size=GIB, origin=""))
    assert found == {"decoded_cache_bytes": GIB // 8, "max_answer_bytes": GIB // 4}


def test_settings_say_where_lowered_defaults_come_from(monkeypatch):
    limit = MemoryLimit(size=GIB, origin="the limit of the control group")
    monkeypatch.setattr("icehouse_server.settings.sources.memory_limit", lambda: limit)
    monkeypatch.setenv("ICEHOUSE_DECODED_CACHE_BYTES", "1000")
    found = load_settings()
    assert (found.settings.decoded_cache_bytes, found.settings.max_answer_bytes) == (1000, GIB // 4)
    assert found.origins["max_answer_bytes"] == "default for 1 GiB, the limit of the control group"
    assert found.origins["decoded_cache_bytes"].startswith("environment")
