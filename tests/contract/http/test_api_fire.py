"""The interface under random fire: schemathesis, all its checks and phases, on what /openapi.json describes.

A new route is under fire as soon as it is described. `FIRE_SEED=3` takes other examples,
`HYPOTHESIS_PROFILE=long` many more. What fails is printed as a command for curl, with the seed.
"""

from __future__ import annotations

import collections
import os
import re
from importlib import resources

import numpy as np
import pytest
import rasterio
import schemathesis
from affine import Affine
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.engine import events, from_schema
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER

from icehouse_server.api.responses import problems

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = int(os.environ.get("FIRE_SEED", "1" if not LONG else str(int.from_bytes(os.urandom(4)))))
TOKEN = "fire-" + "x" * 32

REGION = r"^/collections/\{collection\}/(coverage|coverage\.\{suffix\}|plan|point|inventory)$"
"""Routes of regions. JSON Schema can't say how their parameters go together: see `REASONS`."""

PICTURE = (
    r"^/collections/\{collection\}/"
    r"(tiles/\{tms\}/\{z\}/\{row\}/\{col\}|xyz/.*|\{tms\}/tilejson\.json|legend\.(json|png))$"
)
"""Routes of tiles and of what their colours mean: the same holds of them."""

ORDERS = r"^/collections/\{collection\}/(seed|refresh|truncate)$"
"""Routes that start a job on a region, which comes by query or by body."""

ALIKE = (
    r"^/collections/\{collection\}/(refresh|truncate|plan|coverage\.\{suffix\}|xyz/.*|legend\..*|"
    r"\{tms\}/.*|tiles/\{tms\})$"
)
"""Routes that take the parameters of another: what is wrong with each is tried there, and here in the long
profile alone. They are under all other fire."""

STREAMS = r"(inventory|status)/events$"
"""Routes that answer until the caller leaves."""

REASONS = [
    # One number against another.
    r"bbox: (min[xy]) \S+ is not below max[xy] \S+",
    r"bbox: \S+ is out of range, which is \S+ to \S+ degrees",
    r"points: \S+ is out of range, which is \S+ to \S+ degrees",
    # Numbers that are well written, and too large or too small for a double.
    r"(bbox|resolution): .* holds a number that is too large",
    r"resolution: .* is not positive",
    r"resolution: too small for the coordinates of this CRS",
    r"(resolution|proj:transform): transform is not invertible",
    r"proj:transform: (must be six finite numbers|numbers 7 to 9 must be 0, 0, 1)",
    # What PROJ knows, and where its CRSs have a place.
    r"(crs|bbox-crs|subset-crs|proj:code): \S+ (is not known|must be a 2-D projected or geographic CRS)",
    r"proj:wkt2: (must be WKT2 of a projected or geographic CRS|PROJ can't read it)",
    r"(bbox|geometry): (cannot be projected to|has no extent in) \S+",
    # Geometry of polygons.
    r"geometry: (must not be empty|coordinates can't be read)",
    r"geometry: (Ring )?Self-intersection.*",
    r"geometry: (Too few points|Hole lies|Holes are|Interior is|Nested|Duplicate Rings|Invalid).*",
    # What the collection has.
    r"datetime: collection 'tiny' has no time axis",
    r"level: \S+ is not a whole number from 0 to 2",
    r"datetime: .* is not in the time axis of collection 'timed'",
    # A list in a text.
    r"(bands|properties): a band is named twice",
    r"exclude-properties: .*",
    # Axes and times in a text.
    r"subset: .*",
    # What tiles there are, and what makes a picture.
    r"(z|row|col|x|y): (at zoom \d+ of \w+ it is|\w+ has zooms) from .*",
    r"(bands|properties): a picture has one band, or three.*",
    r"bands: means the same as properties; give one of them",
    r"rescale: (required for .*|\d+ pairs for \d+ band.*)",
    r"rescale: pairs of finite numbers, the lower one first, as float32 holds them",
    r"rescale: (shaded relief without colours takes none.*|.* holds a number that is too large)",
    r"hillshade: needs exactly one band",
    r"datetime: a (tile shows one time step, and \d+ are named|picture shows one time step, .*)",
    r"colormap_name: (a colour table is for one band|'\w+' is none of rio-tiler's colour tables)",
]
"""Details of refusals of what is right by the description."""


TIMED = """
id = "timed"
title = "A map for each of two years"
[grid]
crs = "EPSG:3413"
resolution = 32
bounds = [-712064, 2641888, -703872, 2650080]
chunk = 64
[extent]
bbox = [149.8, 65.0, 150.1, 65.15]
[time]
start = "2022"
end = "2024"
period = "yearly"
[source]
type = "files"
folder = "files"
datetime = { pattern = '_(\\d{4})', format = "%Y" }
[[bands]]
name = "dem"
dtype = "float32"
nodata = -9999
"""
"""The grid of ``tiny``, with two steps in time."""


def write_maps(folder):
    folder.mkdir()
    for year in (2022, 2023):
        with rasterio.open(
            folder / f"map_{year}.tif",
            "w",
            driver="GTiff",
            width=256,
            height=256,
            count=1,
            dtype="float32",
            nodata=-9999,
            crs="EPSG:3413",
            transform=Affine(32, 0, -712_064, 0, -32, 2_650_080),
        ) as file:
            file.write(np.full((256, 256), year, "float32"), 1)


@pytest.fixture(scope="module")
def target(start_daemon, tmp_path_factory):
    """A daemon with two tiny collections and small limits: whatever is asked of it, it is soon done."""
    folder = tmp_path_factory.mktemp("collections")
    write_maps(folder / "files")
    (folder / "timed.toml").write_text(TIMED)
    text = (resources.files("icehouse_server.collections") / "builtin" / "arcticdem-32m.toml").read_text()
    for old, new in (
        ('id = "arcticdem-32m"', 'id = "tiny"'),
        ("[-4000096, -3400096, 3400096, 4100096]", "[-712064, 2641888, -703872, 2650080]"),
        ("chunk = 256", "chunk = 64"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "tiny.toml").write_text(text)
    settings = {
        "ICEHOUSE_COLLECTIONS_DIR": str(folder),
        "ICEHOUSE_COLLECTIONS": "tiny,timed",
        "ICEHOUSE_MAX_OUTPUT_PIXELS": "200000",
        "ICEHOUSE_TOKEN": TOKEN,
    }
    with start_daemon(settings) as daemon:
        yield daemon


LINKS = {"collection", "schema", "plan", "coverage", "point"}
"""Links that the description has; schemathesis follows some of its own making besides."""


def boxes():
    """Boxes in and around the tiny collections, as text."""
    sides = st.tuples(
        st.floats(149.8, 150.1), st.floats(65.0, 65.15), st.floats(1e-4, 0.1), st.floats(1e-4, 0.1)
    )
    return sides.map(lambda s: f"{s[0]:.6f},{s[1]:.6f},{s[0] + s[2]:.6f},{s[1] + s[3]:.6f}")


FORMATS = {
    "bbox": boxes(),
    "crs-code": st.sampled_from(
        ["EPSG:3413", "[EPSG:4326]", "CRS84", "epsg:32655", "urn:ogc:def:crs:EPSG::3995"]
    ),
    "subset": st.sampled_from(
        [
            "Lon(149.98),Lat(65.1)",
            "Lon(149.97:149.99),Lat(65.09:*)",
            'Lat(65.09:65.1),time("2022":*)',
            "E(0)",
            "Lon(1",
        ]
    ),
    "resolution": st.sampled_from(["32", "100", "64.5,32", "1e2", ".5"]),
    "band-names": st.sampled_from(["dem", "dem,mad", "count", " dem , count ", "nope"]),
    "band-name": st.sampled_from(["dem", "mad", "count", "nope"]),
    "snapshot": st.sampled_from(["main", "0" * 20]),
    "wkt2": st.text(max_size=30),
    "style": st.sampled_from(["hillshade", "tinted", "heights", "nope"]),
    "rescale": st.sampled_from(["0,1000", "-1.5, 1e3", "0,1,0,1,0,1", "5,2"]),
    "colormap": st.sampled_from(["viridis", "terrain", "nope"]),
    "datetime-ranges": st.sampled_from(["2022", "2023-05-06T07:08:09Z", "2022/..", "2022,2023-02", "2030"]),
}
"""What the formats of the description stand for: from patterns alone, hardly a box would be anywhere."""


def make_sensible(context, case, kwargs):  # noqa: ARG001 - schemathesis calls it so
    """Leave out, of requests that are right parameter by parameter, what excludes something else.

    Half of what remains would otherwise be refused before anything interesting happens.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query if isinstance(case.query, dict) else {}
    for part in (query, case.body):
        if isinstance(part, dict):
            if case.path_parameters.get("collection") != "timed":
                part.pop("datetime", None)
            if isinstance(part.get("level"), int):
                part["level"] %= 3
    if re.match(ORDERS, case.path):
        make_order_sensible(query, case.body)
    elif case.path.endswith("point") and case.method == "GET":
        make_point_sensible(query)
    elif re.match(f"{REGION}|{PICTURE}", case.path):
        make_query_sensible(query)
        make_picture_sensible(case.path_parameters, query)
        if isinstance(case.body, dict):
            make_body_sensible(case.body)


def make_point_sensible(query):
    whole = {"x", "y"} <= query.keys() and not {"lon", "lat"} & query.keys()
    for name in () if whole else ("x", "y", "crs"):
        query.pop(name, None)
    for name, number in () if whole else (("lon", 149.98), ("lat", 65.1)):
        query.setdefault(name, number)


def make_picture_sensible(path, query):
    """Ask for tiles that there are: of zoom 12 at most, in its first rows and columns."""
    if isinstance(path.get("z"), int):
        path["z"] %= 13
        for name in ("row", "col", "x"):
            if isinstance(path.get(name), int):
                path[name] %= 2 ** path["z"]
    if "style" in query:
        for name in ("properties", "bands", "rescale"):
            query.pop(name, None)


def make_query_sensible(query):
    if "bbox" not in query:
        query.pop("bbox-crs", None)
    elif query.get("bbox-crs", "CRS84") not in {"CRS84", "EPSG:4326"}:
        query["bbox-crs"] = "CRS84"
    if "properties" in query:
        query.pop("bands", None)
    if {"properties", "bands"} & query.keys():
        query.pop("exclude-properties", None)
    if "subset" in query:
        for name in ("bbox", "bbox-crs", "subset-crs", "datetime", "width", "height", "resolution"):
            query.pop(name, None)
    if {"width", "height"} & query.keys():
        query.pop("resolution", None)


def make_order_sensible(query, body):
    if not isinstance(body, dict):
        query.pop("all", None)
        query.setdefault("bbox", "149.97,65.09,149.99,65.1")
        query["bbox-crs"] = "CRS84"
        if "properties" in query:
            query.pop("bands", None)
        return
    query.clear()
    body.pop("all", None)
    if body.get("bbox") is None:
        body.pop("bbox", None)
        body.pop("bbox-crs", None)
        make_body_sensible(body)
        return
    for name in ("proj:code", "proj:wkt2", "proj:transform", "proj:shape", "geometry"):
        body.pop(name, None)
    body.update({"bbox": [149.97, 65.09, 149.99, 65.1], "bbox-crs": "CRS84"})


def make_body_sensible(body):
    geobox = ("proj:code", "proj:transform", "proj:shape")
    if all(body.get(name) is not None for name in geobox):
        for name in ("crs", "resolution", "proj:wkt2"):
            body.pop(name, None)
    elif body.get("geometry") is not None:
        for name in (*geobox, "proj:wkt2"):
            body.pop(name, None)
    elif "points" not in body:
        body.update({"proj:code": "EPSG:3413", "proj:shape": [3, 5]})
        body["proj:transform"] = [32, 0, -712064, 0, -32, 2650080]
        for name in ("crs", "resolution", "proj:wkt2"):
            body.pop(name, None)


def problem_documents(ctx, response, case):  # noqa: ARG001 - schemathesis calls it so
    """Every error is a problem document that says what is wrong, shortly, and nothing of the inside."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    if case.path == "/readyz":
        return  # its 503 is the document that says why not
    document = response.json()
    kind = document["kind"]
    assert response.headers["content-type"] == ["application/problem+json"]
    assert document["status"] == response.status_code
    assert document["type"] == f"urn:icehouse:problem:{kind}"
    assert document["title"]
    assert 10 < len(document["detail"]) < 1000, document["detail"]
    assert response.status_code < 500 or kind == "not-cached", response.text
    for inside in ("Traceback", 'File "', "site-packages", ".py", "object at 0x", "pydantic"):
        assert inside not in response.text, response.text
    if kind in {"bad-parameter", "bad-body"}:
        assert document["detail"].startswith(document["parameter"]), document
        assert len(document["parameter"]) <= 200


def valid_is_refused_for_a_reason(ctx, response, case):  # noqa: ARG001
    """What is right by the description is answered, or refused for what no JSON Schema can say."""
    if not case.meta.generation.mode.is_positive or response.status_code not in {400, 406, 422}:
        return
    if response.request.method != case.method or not re.match(f"{REGION}|{ORDERS}|{PICTURE}", case.path):
        return
    detail = response.json()["detail"]
    reasons = [reason for reason in REASONS if re.fullmatch(reason, detail)]
    assert reasons, detail


@pytest.fixture
def armed():
    """Our formats, hook and checks, for the length of a test."""
    ours = (problem_documents, valid_is_refused_for_a_reason)
    for name, strategy in FORMATS.items():
        schemathesis.openapi.format(name, strategy)
    for check in ours:
        schemathesis.check(check)
    schemathesis.hook("before_call")(make_sensible)
    yield
    GLOBAL_HOOK_DISPATCHER.unregister(make_sensible)
    for check in ours:
        schemathesis.checks.CHECKS.unregister(check.__name__)


def config():
    examples, chains = (3000, 1000) if LONG else (12, 5)
    return schemathesis.Config.from_dict(
        {
            "seed": SEED,
            "continue-on-failure": True,
            "request-timeout": 60,
            # With every request, as methods that a route does not have ask for the token before all.
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "generation": {"database": "none"},
            "phases": {
                "coverage": {"generate-duplicate-query-parameters": True},
                "fuzzing": {"generation": {"max-examples": examples}},
                "stateful": {
                    "generation": {"max-examples": chains},
                    # Few chains follow the links that are described; many, those that can be guessed as well.
                    "inference": {"algorithms": ["location-headers", "dependency-analysis"] if LONG else []},
                },
            },
            "operations": [
                {"include-path-regex": STREAMS, "enabled": False},
                {"include-path-regex": ALIKE, "phases": {"coverage": {"enabled": LONG}}},
                {
                    # A job that runs is ended by DELETE and still there to be read (OGC API Processes);
                    # tests of jobs look at what is gone after the second.
                    "include-path-regex": "^/jobs/",
                    "checks": {"use_after_free": {"enabled": False}},
                },
                {
                    # Replaced by valid_is_refused_for_a_reason, as below.
                    "include-path-regex": f"{ORDERS}|{PICTURE}",
                    "checks": {"positive_data_acceptance": {"enabled": False}},
                },
                {
                    "include-path-regex": REGION,
                    "checks": {
                        # Replaced by valid_is_refused_for_a_reason, which knows the reasons.
                        "positive_data_acceptance": {"enabled": False},
                        # A past snapshot without the chunks is 504 (RFC 9111); problem_documents allows this
                        # kind and no other.
                        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]},
                    },
                },
            ],
        }
    )


class Record:
    """What was asked and what failed."""

    def __init__(self):
        self.phases = collections.Counter()
        self.answers = collections.defaultdict(collections.Counter)
        self.followed = collections.Counter()
        self.failures = {}

    def note(self, event):
        match event:
            case events.NonFatalError() | events.FatalError():
                self.failures[str(getattr(event, "value", event))] = ["the fire itself"]
            case events.ScenarioFinished():
                self._note(event)

    def _note(self, event):
        recorder = event.recorder
        self.phases[event.phase.name] += len(recorder.cases)
        for name, interaction in recorder.interactions.items():
            node = recorder.cases.get(name)
            if node is not None and interaction.response is not None:
                label = node.value.operation.label
                self.answers[label][interaction.response.status_code] += 1
                if node.transition is not None:
                    self.followed[node.transition.id] += 1
        for node in (node for nodes in recorder.checks.values() for node in nodes):
            if node.failure_info is not None:
                failure = node.failure_info.failure
                text = f"{node.name} {failure.operation}: {failure.title} {failure.message}"
                self.failures.setdefault(text, []).append(node.failure_info.code_sample)

    def __str__(self):
        lines = [f"FIRE_SEED={SEED}"]
        lines += [f"{text}\n  {len(curls)} x {curls[0]}" for text, curls in self.failures.items()]
        return "\n\n".join(lines)


@pytest.mark.slow
@pytest.mark.usefixtures("armed")
# Hypothesis, of a strategy that it puts into a report.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.timeout(7200 if LONG else 900)
def test_every_route_under_fire(target):
    schema = schemathesis.openapi.from_url(f"{target.url}/openapi.json", config=config())
    record = Record()
    for event in from_schema(schema).execute():
        record.note(event)
    print(f"FIRE_SEED={SEED}", dict(record.phases), dict(record.followed), dict(record.answers))  # noqa: T201 - shown where it fails
    assert not record.failures, str(record)
    assert target.alive
    # What was never met was not tested: every route gave a good answer, and the links were followed.
    described = {
        f"{method.upper()} {path}"
        for path, item in schema.raw_schema["paths"].items()
        for method in item
        if not re.search(STREAMS, path)
    }
    answered = {label for label, statuses in record.answers.items() if {200, 201, 307} & statuses.keys()}
    chained = {label for label in described if "{job}" in label}  # a job that is there: by links alone
    assert answered - chained == described - chained
    assert chained & answered == chained if LONG else chained & answered
    assert set(record.phases) == {"EXAMPLES", "COVERAGE", "FUZZING", "STATEFUL_TESTING"}
    followed = LINKS & {link.split()[4] for link in record.followed}
    assert followed == LINKS if LONG else followed  # a few chains do not come upon each


def test_the_description_is_openapi(target):
    document = target.http.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert re.fullmatch(r"(get|post|delete)_[a-z_]+", operation["operationId"]), operation[
                "operationId"
            ]
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            for parameter in operation.get("parameters", ()):
                assert parameter["description"], parameter
                assert {"type", "enum"} & parameter["schema"].keys(), parameter
            for status, answer in operation["responses"].items():
                assert int(status)
                shared = answer.get("$ref", "").rpartition("/")[2]
                answer = document["components"]["responses"][shared] if shared else answer  # noqa: PLW2901
                assert answer["description"], (method, path, status)
                for media_type, content in answer.get("content", {}).items():
                    assert content["schema"], (path, media_type)
                    assert int(status) < 400 or media_type == problems.MEDIA_TYPE or path == "/readyz"
                assert "content" in answer or status in {"204", "304", "307"}, (method, path, status)
                assert "Icehouse-Request-Id" in answer["headers"]
    assert document["components"]["schemas"].keys() & {"HTTPValidationError", "ValidationError"} == set()


def test_description_names_collections_and_what_needs_the_token(target):
    document = target.http.get("/openapi.json").json()
    parameters = document["paths"]["/collections/{collection}"]["get"]["parameters"]
    (parameter,) = (each for each in parameters if each["in"] == "path")
    assert parameter["schema"]["enum"] == ["timed", "tiny"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            reads = method == "get" or path.endswith(("/coverage", "/plan", "/point"))
            assert ("security" not in operation) == reads
            assert ("401" not in operation["responses"]) == reads
