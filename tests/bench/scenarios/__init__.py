"""The rows of the table, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scenarios import cold, composites, earthengine, growth, memory, output, tiles, together, warm

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.bench import Bench
    from harness.measure import Result

SCENARIOS: Final[dict[str, Callable[[Bench], list[Result]]]] = {
    "warm-1000": warm.small,
    "warm-3600": warm.large,
    "new-worker": warm.new_worker,
    "restart": warm.after_restart,
    "eight-processes": warm.eight_processes,
    "cold-bytes": cold.source_bytes,
    "cold-2m": cold.two_metres,
    "cold-32m": cold.thirty_two_metres,
    "thirty-two-workers": together.one_region,
    "fairness": together.beside_large,
    "growth": growth.plan_and_commit,
    "reprojected": output.reprojected,
    "geotiff": output.geotiff,
    "memory": memory.answers,
    "png-tile": tiles.png_tile,
    "tctrend": earthengine.trends,
    "alphaearth": earthengine.embeddings,
    "sentinel-2": composites.monthly_median,
}
