"""All commands, and how errors look on a terminal."""

import sys

import typer

from icehouse_server.cli import collections, config, demo, jobs, queries, serve, status, takeover
from icehouse_server.core.errors import IcehouseError

app = typer.Typer(
    name="icehouse",
    help="A local cache daemon for remote Earth-observation rasters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("load")(queries.load)
app.command("plan")(queries.plan)
app.command("seed")(jobs.seed)
app.command("refresh")(jobs.refresh)
app.command("truncate")(jobs.truncate)
app.command("jobs")(jobs.jobs)
app.command("gc")(jobs.gc)
app.command("status")(status.status)
app.command("import-smart-geocubes")(takeover.import_smart_geocubes)
app.add_typer(collections.app, name="collections")
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line; errors are one sentence and a hint on stderr, with exit status 1."""
    try:
        app()
    except IcehouseError as error:
        print(f"icehouse: {error.detail}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(1)
