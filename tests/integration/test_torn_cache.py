"""Damaged files under a real daemon, over HTTP. All kinds of damage: ``tests/faults/test_torn_files.py``."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

import icehouse


def test_flipped_chunks_are_fetched_again_while_the_daemon_runs(daemon, chunk_window, truth):
    server = daemon(decoded_cache_bytes=0)
    window = chunk_window(0, 0, 2, 2)
    with server.client() as client:
        client.load(window)
        files = sorted((server.cache / "collections" / "arcticdem-32m" / "chunks").iterdir())
        for place, file in enumerate(files):
            data = bytearray(file.read_bytes())
            data[len(data) * place // len(files)] ^= 16
            file.write_bytes(data)
        np.testing.assert_array_equal(client.load(window)["dem"].values, truth("32m", window))
    assert "a stored chunk does not decode" in server.log.read_text()
    assert server.ready()["ready"]


def test_torn_repository_is_set_aside_and_the_other_served(daemon, chunk_window, truth):
    two = {"collections": "arcticdem-32m,arcticdem-10m"}
    first = daemon(**two)
    assert first.stop() == 0
    torn = first.cache / "collections" / "arcticdem-10m"
    (torn / "repo").write_bytes((torn / "repo").read_bytes()[:100])
    server = daemon(first.cache, **two)
    window = chunk_window(0, 0)
    with server.client() as client:
        np.testing.assert_array_equal(client.load(window)["dem"].values, truth("32m", window))
    with server.client("arcticdem-10m") as client, pytest.raises(icehouse.IcehouseError) as caught:
        client.load(window)
    assert caught.value.kind == "store-failed"
    said = server.ready()
    assert not said["ready"]
    assert [(reason["code"], reason["collection"]) for reason in said["reasons"]] == [
        ("collection-set-aside", "arcticdem-10m")
    ]
    answer = httpx.get(f"{server.url}/collections/arcticdem-10m")
    assert (answer.status_code, answer.json()["kind"]) == (500, "store-failed")
    assert "move collections/arcticdem-10m out of the cache folder" in server.log.read_text()
    assert server.stop() == 0
    torn.rename(first.cache / "aside")
    assert daemon(first.cache, **two).ready()["ready"]


def test_torn_repository_of_the_only_collection_names_a_remedy(daemon, launcher):
    first = daemon()
    assert first.stop() == 0
    (first.cache / "collections" / "arcticdem-32m" / "repo").write_bytes(b"")
    said = launcher.command("serve", "--port", 0, "--cache-dir", first.cache, collections="arcticdem-32m")
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert "icehouse: the repository of collection 'arcticdem-32m' can't be opened" in said.stderr
    assert "hint: move collections/arcticdem-32m out of the cache folder" in said.stderr
