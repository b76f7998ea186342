"""Tables of a collection file that are a source's own: checked, with words for whoever wrote them."""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from icehouse_server.core.errors import ConfigurationError


def parse_table[T: BaseModel](model: type[T], table: Mapping[str, object], where: str) -> T:
    """Check a table.

    Args:
        model: what it may hold.
        table: what it holds.
        where: names it in messages.

    Raises:
        ConfigurationError: names the key and what would be right.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        problems = "; ".join(_sentence(entry) for entry in error.errors(include_url=False))
        raise ConfigurationError(
            f"{where}: {problems}", hint=f"its keys are {', '.join(model.model_fields)}"
        ) from error


def _sentence(entry: ErrorDetails) -> str:
    """Say what is wrong with a key as the rest of the collection file does."""
    key = ".".join(str(part) for part in entry["loc"])
    match entry["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r}"
        case "missing":
            return f"the key {key!r} is missing"
        case _:
            return f"{key or 'the table'}: {entry['msg'].removeprefix('Value error, ')}"
