"""Sixteen Ray tasks, each of which loads a window; run by test_workers.py as a program of its own.

python ray_script.py URL WINDOWS FILE: WINDOWS is JSON of [transform, shape], FILE a .npz for the pixels.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own imports
    import ray

import numpy as np

import icehouse


@ray.remote(num_cpus=0.25)
def load(client, geobox):
    dataset = client.load(geobox)
    return dataset.dem.values, dataset.x.values, os.getpid()


def main(url, windows, file):
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        object_store_memory=128 * 1024**2,
    )
    client = icehouse.Client(url, "arcticdem-32m")
    client.status()  # its connection must stay behind when it is shipped
    grids = [
        icehouse.GeoBox(crs="EPSG:3413", transform=tuple(transform), shape=tuple(shape))
        for transform, shape in windows
    ]
    found = ray.get([load.remote(client, grid) for grid in grids], timeout=120)
    arrays = {f"pixels_{number}": pixels for number, (pixels, _, _) in enumerate(found)}
    np.savez(file, x=np.array([x[0] for _, x, _ in found]), pids=[pid for *_, pid in found], **arrays)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])
