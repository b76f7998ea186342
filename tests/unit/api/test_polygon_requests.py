"""Requests with a polygon: across 180 degrees, and of parts that lie far apart."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from shapely.geometry import MultiPolygon, box, mapping

from icehouse_server.api.parameters.coverage import CoverageBody, CoverageQuery
from icehouse_server.api.parameters.job import SeedBody, SeedQuery, job_spec_of
from icehouse_server.collections import read_collections
from icehouse_server.core.area import area_under
from icehouse_server.core.limits import Limits
from icehouse_server.core.plan import make_plan
from icehouse_server.service import JobKind

SPEC = read_collections(None)["tctrend"]
NOTHING = SimpleNamespace(has=lambda _: False)
LIMITS = Limits(max_output_pixels=10**11, max_chunks=10**5, max_fills=10**5)
ACROSS = MultiPolygon([box(179.6, -18, 180, -17.6), box(-180, -18, -179.6, -17.6)])
"""As RFC 7946 has a region around 180 degrees: in two parts."""
APART = MultiPolygon([box(-150.01, 65, -149.7, 65.2), box(150.01, 65, 150.3, 65.2)])


def planned(spec=SPEC, **body):
    request = asyncio.run(CoverageBody.model_validate(body).coverage_request(spec))
    return make_plan(request.region, NOTHING, LIMITS)


def positions(plan):
    return {(key.row, key.col) for key in plan.needed}


def by_bbox(*bbox):
    """What a bbox needs, which is known to go around the earth."""
    request = CoverageQuery(bbox=",".join(map(str, bbox))).coverage_request(SPEC)
    return make_plan(request.region, NOTHING, LIMITS)


def test_a_polygon_cut_at_180_costs_what_its_bbox_does():
    plan, oracle = planned(geometry=mapping(ACROSS)), by_bbox(179.6, -18, -179.6, -17.6)
    assert plan.region.target == oracle.region.target
    assert positions(plan) == positions(oracle)
    assert len(positions(plan)) < 100  # of 5219 columns of chunks
    assert plan.window == oracle.window
    assert plan.window.width < plan.region.shape[1] + 10  # the margin of a warp


def test_parts_that_lie_apart_are_planned_part_by_part():
    plan = planned(geometry=mapping(APART))
    west, east = by_bbox(-150.01, 65, -149.7, 65.2), by_bbox(150.01, 65, 150.3, 65.2)
    needed = positions(west) | positions(east)
    assert positions(plan) >= needed
    assert len(positions(plan)) < 2 * len(needed)  # a warp is planned in cells of 256 pixels
    assert 150 <= plan.region.target.boundingbox.left < 151  # the short way round, across 180


@pytest.mark.parametrize("shape", [ACROSS, APART], ids=["across", "apart"])
def test_a_seed_is_about_what_a_load_needs(shape):
    body = SeedBody.model_validate({"geometry": mapping(shape)})
    job = asyncio.run(job_spec_of(JobKind.SEED, SPEC, SeedQuery(), body))
    grid = SPEC.grids[job.levels[0]]
    area = area_under(grid, job.target, 10**5, job.clip)
    held = area.within(area.bounds)
    found = {
        (area.bounds.row + row, area.bounds.col + col)
        for row in range(area.bounds.height)
        for col in range(area.bounds.width)
        if held[row, col]
    }
    needed = positions(planned(geometry=mapping(shape)))
    assert found >= needed
    assert len(found) < 3 * len(needed)  # for whatever resampling


@pytest.mark.parametrize("turn", [-360, 0, 360])
def test_a_clip_is_found_whatever_the_turn_of_the_geobox(turn):
    geobox = {
        "proj:code": "EPSG:4326",
        "proj:transform": [0.01, 0, -100.5 + turn, 0, -0.01, 40.5],
        "proj:shape": [100, 100],
    }
    plan = planned(geometry=mapping(box(-100, 40, -99, 41)), **geobox)
    assert plan.region.clip.bounds == (-100 + turn, 40, -99 + turn, 41)
    assert plan.needed
