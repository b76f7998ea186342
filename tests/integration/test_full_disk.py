"""A disk that takes no more: it is said, cached regions are served, and with room again all goes on.

The limit of a file's size stands for the disk: unlike a mount, its owner can set it on a running process.
"""

from __future__ import annotations

import resource

import httpx
import numpy as np
import pytest

import icehouse


def fill(daemon, size):
    """Let no file of the daemon grow beyond the given bytes; None is room again."""
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


# The log lies on the disk as well: with 0 it takes no line, with 20,000 only the chunks are too large.
@pytest.mark.parametrize("size", [0, 20_000])
def test_a_full_disk_is_a_507_and_cached_regions_are_served(
    daemon, fresh_standins, chunk_window, truth, size
):
    server = daemon(failure_ttl=0)
    kept, new = chunk_window(0, 0), chunk_window(1, 1)
    with server.client() as client:
        np.testing.assert_array_equal(client.load(kept)["dem"].values, truth("32m", kept))
        fill(server, size)
        for _ in range(3):
            with pytest.raises(icehouse.DiskFull):
                client.load(new)
            np.testing.assert_array_equal(client.load(kept)["dem"].values, truth("32m", kept))
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        fill(server, None)
        np.testing.assert_array_equal(client.load(new)["dem"].values, truth("32m", new))
    assert server.stop() == 0
    fresh_standins.reset()
    with daemon(server.cache).client() as client:
        for window in (kept, new):
            np.testing.assert_array_equal(client.load(window)["dem"].values, truth("32m", window))
    assert fresh_standins.counters().requests == 0
