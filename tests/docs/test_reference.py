"""The reference names everything that there is, and nothing else: in first cells of tables or headings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import typing
import urllib.request
from pathlib import Path

import platformdirs
import pytest
import typer

import icehouse
import icehouse_server
from icehouse import _problems
from icehouse_server.api import create_api
from icehouse_server.api.responses import problems
from icehouse_server.api.routes import health
from icehouse_server.cli.commands import app as command_line
from icehouse_server.collections import loader
from icehouse_server.core import errors
from icehouse_server.output import FORMATS
from icehouse_server.settings import Settings
from icehouse_server.sources.earthengine import settings as earthengine_settings
from icehouse_server.sources.files import settings as files_settings
from icehouse_server.sources.stac import settings as stac_settings

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def sections(page):
    """Heading -> text below it, up to the next heading of any level."""
    parts = re.split(r"^#+ (.*)$", _FENCE.sub("", page.text), flags=re.MULTILINE)
    return {heading.replace("`", ""): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text):
    """Name in the first cell -> the other cells, of every table row whose first cell is code."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        name = re.fullmatch(r"`([^`]+)`", cells[0])
        if name:
            assert name[1] not in found, f"{name[1]} stands there twice"
            found[name[1]] = cells[1:]
    return found


@pytest.fixture(scope="session")
def api():
    return create_api(version="0", max_body_bytes=1, lifespan=None)


# Settings


def literal(value):
    """A default as TOML writes it."""
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return f"`{json.dumps(value)}`" if not isinstance(value, dict) else "`{}`"


def test_settings_and_their_defaults(page_of, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    documented = rows(page_of("docs/reference/settings.md").text)
    assert set(documented) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if name == "cache_dir":
            assert Path(documented[name][0].strip("`")).expanduser() == Path(
                platformdirs.user_cache_dir("icehouse", appauthor=False)
            )
            continue
        wanted = "`[]`" if default == () else literal(default)
        assert documented[name][0].split(" (")[0] == wanted, name


# Errors


def server_kinds():
    """Kind -> statuses it is answered with."""
    found = {}
    for cls in subclasses(errors.IcehouseError):
        if cls.__module__ == errors.__name__:
            statuses = [problems.STATUSES[base] for base in cls.__mro__ if base in problems.STATUSES]
            found.setdefault(cls.kind, set()).add(statuses[0] if statuses else 500)
    found["chunks-failed"].add(504)
    found["outside"] = {204}
    for status, kind in problems.HTTP_KINDS.items():
        found.setdefault(kind, set()).add(status)
    for status, kind in literal_problems():
        found.setdefault(kind, set()).add(status)
    for kind in ("bad-configuration", "cache-folder-locked", "repository-foreign"):
        found[kind] = set()  # they end the start: nothing answers
    return found


def subclasses(cls):
    yield cls
    for sub in cls.__subclasses__():
        yield from subclasses(sub)


def literal_problems():
    """(status, kind) of every call of `problem` in the API that names both."""
    for file in sorted(Path(problems.__file__).parents[1].rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "problem":
                values = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
                if len(values) == 2:
                    yield tuple(values)


def test_error_kinds_their_statuses_and_the_clients_classes(page_of):
    documented = rows(sections(page_of("docs/reference/errors.md"))["What the daemon answers"])
    kinds = server_kinds()
    assert set(documented) == set(kinds)
    for kind, statuses in kinds.items():
        said = {int(word) for word in re.findall(r"\b\d{3}\b", documented[kind][0])}
        assert said == statuses, kind
        if not statuses:
            continue
        cls = (
            icehouse.OutsideCollection
            if kind == "outside"
            else _problems._KINDS.get(kind, icehouse.ServerError)
        )
        assert documented[kind][1] == f"`{cls.__name__}`", kind


def test_errors_of_the_client_alone(page_of):
    documented = rows(sections(page_of("docs/reference/errors.md"))["What the client adds"])
    own = (
        icehouse.ConnectionFailed,
        icehouse.ClientTimeout,
        icehouse.ProtocolError,
        icehouse.OutsideCollection,
        icehouse.JobFailed,
    )
    assert documented.keys() == {cls.default_kind for cls in own}
    for cls in own:
        assert documented[cls.default_kind][0] == f"`{cls.__name__}`"


# Metrics


def test_metrics_and_their_types(page_of, daemon_url):
    with urllib.request.urlopen(f"{daemon_url}/healthz"):
        pass  # so that requests were counted
    with urllib.request.urlopen(f"{daemon_url}/metrics") as answer:
        text = answer.read().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    real = {name: kind for name, kind in types.items() if not name.endswith("_created")}
    documented = rows(page_of("docs/reference/metrics.md").text)
    assert {name: cells[0] for name, cells in documented.items()} == real
    for name, cells in documented.items():
        labels = set(re.findall(r"`(\w+)`", cells[1]))
        for found in re.findall(rf"^{name}(?:_bucket)?\{{(.*?)\}} ", text, re.MULTILINE):
            assert labels == set(re.findall(r"(\w+)=", found)) - {"le"}, name


# Log and readiness


def test_events_of_the_log(page_of):
    documented = rows(sections(page_of("docs/how-to/monitoring.md"))["The log"])
    source = Path(icehouse_server.__file__).parent
    code = "\n".join(file.read_text() for file in source.rglob("*.py"))
    real = set(re.findall(r'(?<!\.)\blog\.(\w+)\(\s*"(\w+)"', code))  # an event of one word is a stable one
    assert {(cells[0], name) for name, cells in documented.items()} == real


def test_reasons_not_to_be_ready(page_of):
    assert set(rows(sections(page_of("docs/reference/http.md"))["GET /readyz"])) == set(health.CODES)


# HTTP


def test_routes(page_of, api):
    documented = {
        heading for heading in sections(page_of("docs/reference/http.md")) if re.match(r"[A-Z]+ /", heading)
    }
    real = {"GET /docs", "GET /openapi.json"}
    for path, methods in api.openapi()["paths"].items():
        real |= {f"{method.upper()} {path.replace('{collection}', '{id}')}" for method in methods}
    assert documented == real


def test_parameters_of_routes(page_of, api):
    text = sections(page_of("docs/reference/http.md"))
    described = api.openapi()
    shared = set(rows(text["Parameters of a region"]))
    own = {
        parameter["name"]
        for parameter in described["paths"]["/collections/{collection}/plan"]["get"]["parameters"]
        if parameter["in"] == "query"
    }
    assert shared == own | {"f"}
    assert set(rows(text["GET /collections/{id}/point"])) == {
        parameter["name"]
        for parameter in described["paths"]["/collections/{collection}/point"]["get"]["parameters"]
        if parameter["in"] == "query"
    }
    assert set(rows(text["Parameters of a picture"])) == {
        parameter["name"]
        for parameter in described["paths"]["/collections/{collection}/legend.json"]["get"]["parameters"]
        if parameter["in"] == "query"
    } - {"f"}
    schemas = described["components"]["schemas"]
    assert set(rows(text["POST /collections/{id}/coverage"])) == set(schemas["CoverageBody"]["properties"])
    assert set(rows(text["POST /collections/{id}/point"])) == set(schemas["PointsBody"]["properties"])
    assert set(rows(text["GET /collections/{id}/plan"])) == set(schemas["PlanDocument"]["properties"])


def test_formats(page_of):
    documented = rows(sections(page_of("docs/reference/http.md"))["Formats"])
    assert set(documented) == set(FORMATS)
    for name, format_ in FORMATS.items():
        assert documented[name][0] == f"`{format_.suffix}`"
        assert documented[name][1] == f"`{format_.media_type}`"


# Command line


def commands(command, name="icehouse"):
    """(name, click command) of every command that does something."""
    if hasattr(command, "commands"):
        if command.invoke_without_command:
            yield name, command
        for word, sub in command.commands.items():
            yield from commands(sub, f"{name} {word}")
    else:
        yield name, command


def test_commands_and_their_options(page_of):
    text = sections(page_of("docs/reference/cli.md"))
    real = dict(commands(typer.main.get_command(command_line)))
    assert {heading for heading in text if heading.startswith("icehouse ")} == set(real)
    for name, command in real.items():
        wanted = {
            max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.name.upper()
            for parameter in command.params
        }
        assert set(rows(text[name])) == wanted - {"--help"}, name


# Collection files


def fields(model, prefix):
    return {f"{prefix}{name}" for name in model.model_fields}


def test_keys_of_collection_files(page_of):
    documented = rows(page_of("docs/reference/collection-file.md").text)
    tables = {"grid", "extent", "time", "links", "source", "bands", "styles"}
    real = fields(loader._File, "") - tables
    real |= fields(loader._GridTable, "grid.") | fields(loader._ExtentTable, "extent.")
    real |= fields(loader._TimeTable, "time.") | fields(loader._StyleTable, "styles.")
    real |= fields(loader._LinkTable, "links.") | (fields(loader._BandTable, "bands.") - {"bands.source"})
    real |= fields(loader._SourceTable, "source.")
    real |= fields(stac_settings.StacTable, "source.") - {"source.tiling", "source.composite"}
    real |= fields(stac_settings.TilingTable, "source.tiling.")
    real |= fields(stac_settings.CompositeTable, "source.composite.") - {"source.composite.mask"}
    real |= fields(stac_settings.MaskTable, "source.composite.mask.")
    real |= fields(stac_settings.BandTable, "bands.source.")
    assert set(documented) == real
    required = {
        *("id", "title", "grid.crs", "grid.resolution", "grid.bounds", "links.title"),
        *("links.href", "bands.name", "bands.dtype", "bands.source.asset", "source.type", "source.api"),
        *("styles.name", "styles.bands"),
        *("source.collection", "source.tiling.origin", "source.tiling.size", "source.tiling.rows"),
        *("source.tiling.columns", "source.tiling.item", "source.composite.rule"),
        *("source.composite.mask.asset", "source.composite.mask.classes"),
    }
    models = {
        "": loader._File,
        "grid": loader._GridTable,
        "extent": loader._ExtentTable,
        "time": loader._TimeTable,
        "links": loader._LinkTable,
        "bands": loader._BandTable,
        "styles": loader._StyleTable,
        "source.tiling": stac_settings.TilingTable,
        "source.composite": stac_settings.CompositeTable,
        "source.composite.mask": stac_settings.MaskTable,
        "bands.source": stac_settings.BandTable,
    }
    for name, cells in documented.items():
        table, _, key = name.rpartition(".")
        model = loader._SourceTable if name == "source.type" else models.get(table, stac_settings.StacTable)
        assert model.model_fields[key].is_required() == (name in required) == (cells[0] == "required"), name


def test_keys_of_collection_files_of_a_folder(page_of):
    text = sections(page_of("docs/reference/files-source.md"))
    for heading, model in (
        ("Table source", files_settings.FilesTable),
        ("Table source.datetime", files_settings.NameTable),
        ("Table bands.source", files_settings.BandTable),
    ):
        documented = rows(text[heading])
        assert set(documented) == set(model.model_fields)
        for name, cells in documented.items():
            assert model.model_fields[name].is_required() == (cells[0] == "required"), name


def test_keys_of_collection_files_of_earth_engine(page_of):
    text = sections(page_of("docs/reference/earth-engine-source.md"))
    table, band = earthengine_settings.EarthEngineTable, earthengine_settings.BandTable
    assert set(rows(text["Table source"])) == set(table.model_fields)
    assert set(rows(text["Table bands.source"])) == set(band.model_fields)
    operations = {
        typing.get_args(cls.model_fields["op"].annotation)[0]: cls
        for cls in (
            *(earthengine_settings.Select, earthengine_settings.Cast),
            *(earthengine_settings.Scale, earthengine_settings.MaskBy),
        )
    }
    documented = rows(text["Operations"])
    assert set(documented) == set(operations)
    for name, cells in documented.items():
        assert set(re.findall(r"`(\w+)`", cells[0])) == set(operations[name].model_fields) - {"op"}


# Client


def test_names_of_the_client(page_of):
    text = sections(page_of("docs/reference/client.md"))
    documented = {heading for heading in text if heading.startswith("icehouse.")}
    classes = [getattr(icehouse, name) for name in icehouse.__all__ if name != "__version__"]
    errors_ = {cls.__name__ for cls in classes if issubclass(cls, icehouse.IcehouseError)}
    named = {f"icehouse.{cls.__name__}" for cls in classes if cls.__name__ not in errors_}
    assert documented == named | {"icehouse.__version__"}
    assert set(rows(text["Errors"])) == errors_
    for heading, name in (
        ("What a client does", "Client"),
        ("icehouse.Collection", "Collection"),
        ("icehouse.Job", "Job"),
    ):
        prefix = f"{name.lower()}."
        members = {prefix + member for member in dir(getattr(icehouse, name)) if not member.startswith("_")}
        assert set(rows(text[heading])) == members


def test_parameters_of_load(page_of):
    text = sections(page_of("docs/reference/client.md"))
    assert set(rows(text["What load takes"])) == set(inspect.signature(icehouse.Client.load).parameters) - {
        "self"
    }
    assert set(rows(text["What seed takes"])) == set(inspect.signature(icehouse.Client.seed).parameters) - {
        "self"
    }
    assert set(rows(text["icehouse.Client"])) == set(inspect.signature(icehouse.Client).parameters)


@pytest.mark.parametrize(
    "name", ["Plan", "PlanChunks", "PlanWindow", "Point", "Progress", "GeoBox", "JobStatus", "JobChunks"]
)
def test_fields_of_the_clients_values(page_of, name):
    text = sections(page_of("docs/reference/client.md"))
    cls = getattr(icehouse, name)
    assert set(rows(text[f"icehouse.{name}"])) == {field.name for field in dataclasses.fields(cls)}
