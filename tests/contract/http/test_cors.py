"""Pages of other origins: those that `cors_origins` names may read, and do nothing else."""

from __future__ import annotations

import pytest

OWN, OTHER = "https://maps.example.org", "https://evil.example"


@pytest.fixture(scope="module")
def open_to_maps(start_daemon):
    origins = f"{OWN}:443,http://localhost:8888"
    with start_daemon({"ICEHOUSE_CORS_ORIGINS": origins, "ICEHOUSE_COLLECTIONS": "arcticdem-32m"}) as daemon:
        yield daemon


def allowed(answer):
    """The headers of CORS in an answer."""
    return {name for name in answer.headers if name.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/collections", "/collections/none", "/readyz", "/", "/openapi.json"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_that_is_named_reads(open_to_maps, path, method):
    answer = open_to_maps.http.request(method, path, headers={"origin": OWN})
    assert answer.headers["access-control-allow-origin"] == OWN
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


def test_the_pixels_of_a_region_with_their_headers(open_to_maps):
    answer = open_to_maps.get(**open_to_maps.place().query(), headers={"origin": "http://localhost:8888"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:8888"
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    safe = {"cache-control", "content-type", "date", "vary"}
    own = {name for name in answer.headers if not name.startswith("access-control-")}
    assert own - safe <= exposed


@pytest.mark.parametrize(
    "origin", [OTHER, "null", "http://maps.example.org", f"{OWN}.evil.example", f"{OWN}:8443", ""]
)
def test_no_other_page_reads(open_to_maps, origin):
    answer = open_to_maps.http.get("/collections", headers={"origin": origin})
    assert not allowed(answer)
    assert "Origin" in answer.headers["vary"], "or a cache gives one page what another may read"
    preflight = {"origin": origin, "access-control-request-method": "GET"}
    assert not allowed(open_to_maps.http.options("/collections", headers=preflight))


def test_a_preflight_of_reading(open_to_maps):
    asked = {
        "origin": OWN,
        "access-control-request-method": "GET",
        "access-control-request-headers": "range,if-none-match",
        "access-control-request-private-network": "true",
    }
    answer = open_to_maps.http.options("/collections/arcticdem-32m/cube.zarr/zarr.json", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    names = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert names >= {"range", "if-none-match", "authorization"}
    assert answer.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_a_page_that_is_named_changes_nothing(open_to_maps, method):
    preflight = {"origin": OWN, "access-control-request-method": method}
    for path in ("/jobs/x", "/collections/arcticdem-32m/seed", "/gc"):
        answer = open_to_maps.http.options(path, headers=preflight)
        assert answer.status_code >= 400
        assert not allowed(answer)
        answer = open_to_maps.http.request(method, path, headers={"origin": OWN})
        assert (answer.status_code, allowed(answer)) == (403, set())


def test_a_host_that_is_not_ours_is_refused_all_the_same(open_to_maps):
    answer = open_to_maps.http.get("/collections", headers={"origin": OWN, "host": "evil.example"})
    assert (answer.status_code, allowed(answer)) == (421, set())


def test_without_the_setting_no_page_reads(daemon):
    answer = daemon.http.get("/collections", headers={"origin": OWN})
    assert not allowed(answer)
    assert "origin" not in answer.headers.get("vary", "").lower()
