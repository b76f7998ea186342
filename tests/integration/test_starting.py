"""How a daemon starts, and what it says when it can't."""

from __future__ import annotations

import re
import socket

import httpx

COLLECTION = """
id = "mine"
title = "Mine"
license = "CC0-1.0"
colour = "blue"
"""


def refusal(run):
    """What a command said that failed as it should: one sentence and a hint, no traceback."""
    assert run.returncode == 1, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert run.stderr.startswith("icehouse: ")
    return run.stderr


def test_ready_daemon_prints_one_line_with_its_url(shared):
    assert re.fullmatch(r"Icehouse is ready at http://127\.0\.0\.1:\d+", shared.line)
    assert httpx.get(f"{shared.url}/healthz").json() == {"status": "ok"}


def test_a_port_that_is_taken_is_named_with_a_remedy(launcher, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(launcher.command("serve", "--port", port, "--cache-dir", tmp_path / "cache"))
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said
    assert not (tmp_path / "cache").exists()


def test_unknown_settings_key_is_named_with_the_nearest_known(launcher, tmp_path):
    file = tmp_path / "icehouse.toml"
    file.write_text('cache_dirr = "/nowhere"\n')
    said = refusal(launcher.command("serve", "--config", file))
    assert "'cache_dirr'" in said
    assert str(file) in said
    assert "did you mean 'cache_dir'?" in said


def test_an_unknown_variable_is_named_with_the_nearest_known_one(launcher):
    said = refusal(launcher.command("serve", cache_dirr="/nowhere"))
    assert "ICEHOUSE_CACHE_DIRR" in said
    assert "did you mean 'ICEHOUSE_CACHE_DIR'?" in said


def test_invalid_value_is_named_with_its_key_and_the_meaning(launcher, tmp_path):
    said = refusal(launcher.command("serve", "--cache-dir", tmp_path, worker_threads="0"))
    assert "worker_threads = '0'" in said
    assert "ICEHOUSE_WORKER_THREADS" in said
    assert "greater than or equal to 1" in said
    assert "hint: Threads that decode" in said


def test_an_address_beyond_loopback_needs_a_trusted_network(launcher, tmp_path):
    said = refusal(
        launcher.command("serve", "--port", 0, "--host", "0.0.0.0", "--cache-dir", tmp_path / "cache")
    )
    assert "'0.0.0.0'" in said
    assert "trusted_network" in said
    assert "127.0.0.1" in said


def test_a_broken_collection_file_is_named_with_its_key(launcher, tmp_path):
    folder = tmp_path / "collections"
    folder.mkdir()
    (folder / "mine.toml").write_text(COLLECTION)
    run = launcher.command(
        "serve", "--port", 0, "--cache-dir", tmp_path / "cache", collections_dir=folder, collections="mine"
    )
    said = refusal(run)
    assert str(folder / "mine.toml") in said
    assert "'colour'" in said or "'grid'" in said


def test_unknown_collection_is_named_with_the_nearest_known_one(launcher, tmp_path):
    said = refusal(
        launcher.command("serve", "--port", 0, "--cache-dir", tmp_path, collections="arcticdem-23m")
    )
    assert "'arcticdem-23m'" in said
    assert "did you mean 'arcticdem-" in said


def test_a_wrong_collection_file_is_set_aside_loudly(daemon, launcher, tmp_path):
    folder = tmp_path / "collections"
    folder.mkdir()
    (folder / "mine.toml").write_text(COLLECTION)
    both = {"collections": "arcticdem-32m,mine", "collections_dir": folder}
    server = daemon(**both)
    said = server.ready()
    assert not said["ready"]
    assert [(reason["code"], reason["collection"]) for reason in said["reasons"]] == [
        ("collection-set-aside", "mine")
    ]
    assert list(said["collections"]) == ["arcticdem-32m"]
    answer = httpx.get(f"{server.url}/collections/mine")
    assert (answer.status_code, answer.json()["kind"]) == (500, "store-failed")
    assert "its collection file can't be used" in answer.json()["detail"]
    log = server.log.read_text()
    assert "mine.toml" in log
    assert "colour" in log
    status = launcher.command("status", "--url", server.url)
    assert status.returncode == 1
    assert "mine: " in status.stdout
    strict = launcher.command("serve", "--strict", "--port", 0, "--cache-dir", tmp_path / "c", **both)
    assert "mine.toml" in refusal(strict)
