"""``icehouse config show``: what is in force, and where each value came from."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(help="Settings.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Settings."""


@app.command("show")
def show(
    config: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,  # noqa: FBT002
) -> None:
    """Print what is in force and where each value came from."""
    from icehouse_server.settings import load_settings

    found = load_settings(config=config)
    values = found.settings.model_dump(mode="json")
    if as_json:
        print(
            json.dumps({key: {"value": value, "origin": found.origins[key]} for key, value in values.items()})
        )
        return
    table = Table("setting", "value", "from", box=None)
    for key, value in values.items():
        shown = "not set" if value is None else str(value)
        table.add_row(key, shown, found.origins[key])
    Console(soft_wrap=True).print(table)
