"""Options that several commands take, each said once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

Url = Annotated[
    str | None, typer.Option(help="The daemon's URL; ICEHOUSE_URL or http://127.0.0.1:4326 by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]
CollectionId = Annotated[str, typer.Argument(help="Collection id; see icehouse collections.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOptions:
    """Where, which bands, and when."""

    bbox: Annotated[str | None, typer.Option(help="minx,miny,maxx,maxy in lon/lat.")] = None
    bbox_crs: Annotated[str | None, typer.Option(help="CRS of --bbox, such as EPSG:3413.")] = None
    bands: Annotated[str | None, typer.Option(help="Bands, between commas.")] = None
    datetime: Annotated[
        str | None, typer.Option(help="Instant, or start/end with .. for open; several between commas.")
    ] = None
    level: Annotated[
        int | None, typer.Option(help="Level: 0 is the full resolution, each further one halves it.")
    ] = None

    def query(self, **more: object) -> dict[str, str]:
        """Return the parameters for the daemon; what is not given is left out."""
        given = {**{field.name: getattr(self, field.name) for field in fields(self)}, **more}
        return {name.replace("_", "-"): str(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(RegionOptions):
    """The same, and on which pixels."""

    crs: Annotated[str | None, typer.Option(help="CRS of the output.")] = None
    width: Annotated[int | None, typer.Option(help="Output columns.")] = None
    height: Annotated[int | None, typer.Option(help="Output rows.")] = None
    resolution: Annotated[str | None, typer.Option(help="Cell size in units of the output CRS.")] = None


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have parameters that are groups of options, such as ``place: Place``."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def run(**given: object) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        group = groups.get(parameter.name)
        single = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += [single] if group is None else _options(group)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
