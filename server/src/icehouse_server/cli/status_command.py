"""``icehouse status``: how a running daemon is."""

import json
from collections.abc import Iterator
from typing import Any

import typer

from icehouse_server.cli.options import AsJson, Url

_FAILURES = 5
"""Failed chunks that are shown."""


def status(url: Url = None, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Say how the daemon is: ready or why not, chunks cached, queue, rates, failures, memory, disk, hits."""
    from icehouse_server.cli.daemon import Daemon

    found = Daemon(url).get("/status")
    print(json.dumps(found) if as_json else "\n".join(_lines(found)))
    if not found["ready"]:
        raise typer.Exit(1)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield "ready" if found["ready"] else f"not ready: {'; '.join(map(_reason, found['reasons']))}"
    for entry in found["collections"]:
        size = "" if entry["bytes"] is None else f", {_size(entry['bytes'])}"
        degraded = "".join(f"; its source: {reason['detail']}" for reason in entry["degraded"])
        yield f"  {entry['id']}: {entry['chunks']} chunks cached{size}{degraded}"
    yield from _downloads(found["downloads"])
    for job in found["jobs"]:
        about = job["collection"] or "all collections"
        yield f"  job {job['id']}: {job['kind']} of {about}, {job['status']}, {job['progress']} %"
    memory, disk, hits = found["memory"], found["disk"], found["hits"]
    yield (
        f"  memory: {_size(memory['decoded_bytes'])} of {_size(memory['decoded_limit'])} for decoded chunks, "
        f"{_size(memory['answer_bytes'])} of {_size(memory['answer_limit'])} for answers"
    )
    limit = "" if disk["cache_limit"] is None else f" of {_size(disk['cache_limit'])}"
    free = "it does not say what is" if disk["free_bytes"] is None else _size(disk["free_bytes"])
    yield f"  disk: {_size(disk['cache_bytes'])}{limit} taken by the cache, {free} free"
    ratio = "" if hits["ratio"] is None else f" ({hits['ratio']:.0%})"
    yield f"  hits: {hits['chunks_cached']} of {hits['chunks_asked']} chunks asked for were cached{ratio}"


def _downloads(downloads: dict[str, Any]) -> Iterator[str]:
    yield (
        f"  downloads: {downloads['running']} blocks under way, {downloads['queued']} waiting; "
        f"{downloads['blocks_per_second']:g} blocks and {_size(downloads['bytes_per_second'])} a second"
    )
    failed = downloads["chunks_failed"]
    yield f"  chunks fetched since the start: {downloads['chunks_fetched']}, failed: {failed}"
    for failure in downloads["failures"][:_FAILURES]:
        what = f"{failure['collection']} {failure['chunk']}"
        yield f"    {failure['at'][:19]} {what}: {failure['detail']} ({failure['kind']})"


def _size(count: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def _reason(reason: dict[str, str | None]) -> str:
    where = f"{reason['collection']}: " if reason.get("collection") else ""
    return f"{where}{reason['detail']} ({reason['code']})"
