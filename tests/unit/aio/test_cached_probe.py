"""One look at a time, and what it found counts for a while."""

import asyncio
from types import SimpleNamespace

import pytest

from icehouse_server.aio import cached_probe
from icehouse_server.aio.cached_probe import CachedProbe, ProbeTimeoutError


async def test_probe_runs_once_in_a_while(monkeypatch):
    now, made, failing = [0.0], [], []
    monkeypatch.setattr(cached_probe, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def make():
        await asyncio.sleep(0)
        if failing:
            raise failing.pop()
        made.append(now[0])
        return len(made)

    shared = CachedProbe(0.5)
    assert await asyncio.gather(*(shared.get(make) for _ in range(64))) == [1] * 64
    now[0] = 0.4
    assert await shared.get(make) == 1
    now[0], failing[:] = 0.5, [OSError()]
    with pytest.raises(OSError):  # noqa: PT011
        await shared.get(make)
    assert await asyncio.gather(shared.get(make), shared.get(make)) == [2, 2]
    assert made == [0.0, 0.5]


async def test_without_an_age_callers_share_only_what_is_under_way():
    made, shared = [], CachedProbe()

    async def make():
        await asyncio.sleep(0)
        made.append(1)
        return len(made)

    assert await asyncio.gather(shared.get(make), shared.get(make)) == [1, 1]
    assert await shared.get(make) == 2


async def test_impatient_callers_leave_one_probe_under_way():
    begun, answer, shared = [], asyncio.Event(), CachedProbe(60)

    async def hang():
        begun.append(1)
        await answer.wait()
        return "late"

    for _ in range(3):
        with pytest.raises(ProbeTimeoutError):
            await shared.get(hang, 0.01)
    answer.set()
    assert await shared.get(hang, 5) == "late"
    assert begun == [1]


async def test_timeout_of_the_probe_itself_is_not_taken_for_impatience():
    async def fail():
        raise TimeoutError("the disk says so")

    with pytest.raises(TimeoutError, match="the disk says so"):
        await CachedProbe().get(fail, 5)


async def test_close_cancels_the_probe_under_way():
    shared = CachedProbe()
    waiting = asyncio.create_task(shared.get(asyncio.Event().wait))
    await asyncio.sleep(0)
    await shared.close()
    await shared.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
