"""``icehouse seed | refresh | truncate | gc | jobs``: work that the daemon does by itself."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from icehouse_server.cli.options import AsJson, CollectionId, RegionOptions, Url, with_groups

if TYPE_CHECKING:
    from icehouse_server.cli.daemon import Daemon

NoWait = Annotated[bool, typer.Option("--no-wait", help="Start it, and don't wait for its end.")]

_UNDER_WAY = frozenset({"accepted", "running"})
_POLL = 0.5
_LINE_EVERY = 10.0
"""Seconds between two lines where the output is not a terminal."""

_SHOWN = 5
"""Failed chunks that are named; all that the daemon lists are in --json."""

_INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as shells have it."""


@with_groups
def seed(
    collection: CollectionId,
    place: RegionOptions,
    everything: Annotated[bool, typer.Option("--all", help="The whole collection.")] = False,  # noqa: FBT002
    url: Url = None,
    as_json: AsJson = False,  # noqa: FBT002
    no_wait: NoWait = False,  # noqa: FBT002
) -> None:
    """Fetch ahead what is absent of a region. People who load meanwhile go first."""
    query = place.query(all="true" if everything else None)
    _run(url, f"/collections/{collection}/seed", query, as_json=as_json, wait=not no_wait)


@with_groups
def refresh(
    collection: CollectionId,
    place: RegionOptions,
    url: Url = None,
    as_json: AsJson = False,  # noqa: FBT002
    no_wait: NoWait = False,  # noqa: FBT002
) -> None:
    """Fetch again what is cached of a region, or of the whole collection."""
    _run(url, f"/collections/{collection}/refresh", place.query(), as_json=as_json, wait=not no_wait)


@with_groups
def truncate(
    collection: CollectionId,
    place: RegionOptions,
    url: Url = None,
    as_json: AsJson = False,  # noqa: FBT002
    no_wait: NoWait = False,  # noqa: FBT002
) -> None:
    """Delete what is cached of a region, or of the whole collection."""
    _run(url, f"/collections/{collection}/truncate", place.query(), as_json=as_json, wait=not no_wait)


def gc(url: Url = None, as_json: AsJson = False, no_wait: NoWait = False) -> None:  # noqa: FBT002
    """Run maintenance now: old snapshots expire, garbage is collected, the disk's bound is kept."""
    _run(url, "/gc", {}, as_json=as_json, wait=not no_wait)


def jobs(
    job: Annotated[str | None, typer.Argument(help="Id of a job; all are listed when left out.")] = None,
    cancel: Annotated[
        str | None, typer.Option(help="Id of a job to end; one that is over is forgotten.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the job that is named.")] = False,  # noqa: FBT002
    url: Url = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the jobs of the daemon, show one, wait for one, or end one."""
    from icehouse_server.cli.daemon import Daemon

    daemon = Daemon(url)
    if cancel is not None:
        found = daemon.ask("DELETE", f"/jobs/{cancel}")
        print(json.dumps(found) if as_json else f"{cancel}: {found['status']}, {found['message']}")
    elif job is None:
        _list(daemon.get("/jobs", {"limit": "1000"}), as_json=as_json)
    elif wait:
        _finish(_follow(daemon, daemon.get(f"/jobs/{job}"), shown=not as_json), as_json=as_json)
    else:
        found = daemon.get(f"/jobs/{job}")
        print(json.dumps(found) if as_json else _line(found))


def _list(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found["jobs"]))
        return
    table = Table("id", "job", "status", "%", "", box=None)
    for entry in found["jobs"]:
        what = " ".join(filter(None, (entry["processID"], entry["collection"])))
        table.add_row(entry["jobID"], what, entry["status"], str(entry["progress"]), entry["message"])
    Console(soft_wrap=True).print(table)


def _run(url: str | None, path: str, query: dict[str, str], *, as_json: bool, wait: bool) -> None:
    """Start a job, and unless it is not wanted, wait for its end."""
    from icehouse_server.cli.daemon import Daemon

    daemon = Daemon(url)
    started = daemon.ask("POST", path, query, accept=(201,))
    name = started["jobID"]
    if not wait:
        print(json.dumps(started) if as_json else f"{name}: follow it with: icehouse jobs {name} --wait")
        return
    try:
        found = _follow(daemon, started, shown=not as_json)
    except KeyboardInterrupt:  # who started it ends it
        print(f"\n{_line(daemon.ask('DELETE', f'/jobs/{name}'))}", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None
    _finish(found, as_json=as_json)


def _finish(found: dict[str, Any], *, as_json: bool) -> None:
    """Say how a job ended; a bad end is a bad exit status."""
    print(json.dumps(found) if as_json else _line(found))
    for failure in () if as_json else found["failures"][:_SHOWN]:
        print(f"  {failure['chunk']}: {failure['detail']} ({failure['kind']})", file=sys.stderr)
    if not as_json and found["hint"]:
        print(f"  hint: {found['hint']}", file=sys.stderr)
    if found["status"] != "successful":
        raise typer.Exit(1)


def _follow(daemon: "Daemon", found: dict[str, Any], *, shown: bool) -> dict[str, Any]:
    """Wait for the end of a job."""
    with _teller(shown=shown) as tell:
        while found["status"] in _UNDER_WAY:
            tell(found)
            time.sleep(_POLL)
            found = daemon.get(f"/jobs/{found['jobID']}")
        tell(found)
    return found


class _Tell(Protocol):
    def __call__(self, found: dict[str, Any], /) -> None: ...


@contextmanager
def _teller(*, shown: bool) -> Iterator[_Tell]:
    """Give what shows how a job goes: a bar on a terminal, now and then a line elsewhere."""
    if not shown:
        yield lambda _: None
    elif sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=100)
            yield lambda found: bar.update(task, completed=found["progress"], description=_line(found))
    else:
        last = [0.0]

        def tell(found: dict[str, Any]) -> None:
            if time.monotonic() - last[0] >= _LINE_EVERY and found["status"] in _UNDER_WAY:
                last[0] = time.monotonic()
                print(_line(found), file=sys.stderr)

        yield tell


def _line(found: dict[str, Any]) -> str:
    return f"{found['processID']} {found['status']}: {found['message']}"
