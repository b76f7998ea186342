"""What sources remember next to the repositories: nice to have, never in the way."""

from __future__ import annotations

import asyncio

import pytest

from icehouse_server.store import SidecarDb, SqliteDocuments


async def test_documents_and_their_absence_are_kept_with_their_age(tmp_path, pool):
    now = [1000.0]
    notes = SidecarDb(tmp_path / "d.sqlite", pool)
    documents = SqliteDocuments(notes, clock=lambda: now[0])
    assert await documents.get("a") is None
    await documents.put("a", '{"x": 1}')
    await documents.put("none", None)
    now[0] += 60
    found = await documents.get("a")
    assert (found.body, found.age) == ('{"x": 1}', 60.0)
    gone = await documents.get("none")
    assert gone is not None
    assert gone.body is None
    await documents.put("a", "new")
    assert (await documents.get("a")).body == "new"
    now[0] -= 500  # the clock was set back
    assert (await documents.get("a")).age == 0
    notes.close()
    notes = SidecarDb(tmp_path / "d.sqlite", pool)
    assert (await SqliteDocuments(notes, clock=lambda: now[0]).get("a")).body == "new"
    notes.close()


async def test_many_at_once(tmp_path, pool):
    notes = SidecarDb(tmp_path / "d.sqlite", pool)
    documents = SqliteDocuments(notes)
    await asyncio.gather(*(documents.put(f"k{n}", str(n)) for n in range(100)))
    found = await asyncio.gather(*(documents.get(f"k{n}") for n in range(100)))
    assert [document.body for document in found] == [str(n) for n in range(100)]
    notes.close()


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
async def test_a_damaged_file_is_set_aside(tmp_path, pool, damage):
    path = tmp_path / "d.sqlite"
    path.write_bytes(damage)
    notes = SidecarDb(path, pool)
    documents = SqliteDocuments(notes)
    await documents.put("a", "1")
    assert (await documents.get("a")).body == "1"
    notes.close()
    assert (tmp_path / "d.damaged").read_bytes() == damage


async def test_log_of_a_damaged_file_is_not_replayed_into_the_new_one(tmp_path, pool):
    path = tmp_path / "d.sqlite"
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).write_bytes(b"left over")
    path.write_bytes(b"no database at all" * 100)
    SidecarDb(path, pool).close()
    assert not any(file.read_bytes() == b"left over" for file in tmp_path.glob("d.sqlite-*"))


async def test_a_folder_that_can_not_be_written_is_not_called_damage(tmp_path, pool):
    """Notes are then kept in memory: nothing in them is worth not to start."""
    notes = SidecarDb(tmp_path / "missing" / "d.sqlite", pool)
    documents = SqliteDocuments(notes)
    await documents.put("a", "1")
    assert (await documents.get("a")).body == "1"
    notes.close()
    assert not (tmp_path / "missing").exists()


async def test_file_that_breaks_while_open_costs_lookups_not_results(tmp_path, pool):
    notes = SidecarDb(tmp_path / "d.sqlite", pool)
    documents = SqliteDocuments(notes)
    await documents.put("a", "1")
    notes._connection.execute("DROP TABLE documents")
    assert await documents.get("a") is None
    await documents.put("a", "2")
    notes.close()
    notes.close()
    assert await documents.get("a") is None
