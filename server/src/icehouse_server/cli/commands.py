"""All commands, and how errors look on a terminal."""

import typer

from icehouse_server.cli import (
    collection_commands,
    config,
    demo_command,
    import_command,
    job_commands,
    region_commands,
    serve_command,
    status_command,
)
from icehouse_server.cli.process_end import refusals_are_sentences
from icehouse_server.cli.streams import open_streams

app = typer.Typer(
    name="icehouse",
    help="A local cache daemon for remote Earth-observation rasters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve_command.serve)
app.command("demo")(demo_command.demo)
app.command("load")(region_commands.load)
app.command("plan")(region_commands.plan)
app.command("seed")(job_commands.seed)
app.command("refresh")(job_commands.refresh)
app.command("truncate")(job_commands.truncate)
app.command("jobs")(job_commands.jobs)
app.command("gc")(job_commands.gc)
app.command("status")(status_command.status)
app.command("import-smart-geocubes")(import_command.import_smart_geocubes)
app.add_typer(collection_commands.app, name="collections")
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line; errors are one sentence and a hint on stderr, with exit status 1."""
    open_streams()
    with refusals_are_sentences():
        app()
