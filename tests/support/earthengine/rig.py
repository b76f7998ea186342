"""An Earth Engine source on top of the stand-in, with everything around it in memory: for tests."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from icehouse_server.core.collection import CollectionSpec
from icehouse_server.core.grid import Window
from icehouse_server.core.ports import BlockRequest, Mask, Pixels
from icehouse_server.core.time import TimeStep
from icehouse_server.sources import EarthEngineSettings, SourceContext
from icehouse_server.testing.source_conformance import SourceCase
from support.earthengine.standin import EarthEngineStandIn
from support.earthengine.truth import truth
from support.source_rig import MemoryDocuments

PROJECT = "any-project"


@contextlib.contextmanager
def earthengine_context(standin: EarthEngineStandIn, **overrides: Any) -> Iterator[SourceContext]:
    """A context that leads to the stand-in; its pool ends with the block."""
    with ThreadPoolExecutor(4, thread_name_prefix="source") as pool:
        settings: dict[str, Any] = {
            "documents": MemoryDocuments(),
            "pool": pool,
            "connect_timeout": 5.0,
            "read_timeout": 60.0,
            "earthengine": EarthEngineSettings(project=PROJECT, credentials="none", url=standin.url),
        }
        yield SourceContext(**{**settings, **overrides})


@dataclass(frozen=True, kw_only=True)
class SteppedCase(SourceCase):
    """A case of a collection with a time axis: one step of it."""

    step: TimeStep

    def request(self, window: Window, bands: tuple[str, ...] | None = None, level: int = 0) -> BlockRequest:
        """Return the request for a window of the grid at a level, at the step."""
        return replace(super().request(window, bands, level), step=self.step)


def truth_of(
    spec: CollectionSpec,
    band: str,
    window: Window,
    *,
    step: TimeStep | None = None,
    **how: Any,
) -> tuple[Pixels, Mask]:
    """Return what a source must give for a band: the oracle's pixels, in the band's dtype."""
    found = spec.band(band)
    asset = str(spec.source.get("image") or spec.source["collection"])
    name = str(found.source.get("mask_of") or found.source.get("band") or band)
    interval = None if step is None else (step.start, step.end)
    values, valid = truth(asset, name, spec.grid.geobox_of(window), interval=interval, **how)
    if "mask_of" in found.source:
        return valid.astype(found.dtype), valid
    # A value that is the band's nodata is none.
    return values.astype(found.dtype), valid if found.nodata is None else valid & (values != found.nodata)
