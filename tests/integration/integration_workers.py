"""What worker processes of these tests run. A module of its own, so that spawned children can import it."""

from __future__ import annotations

import hashlib
import os


def digest(dataset):
    """One hash of all that a dataset holds: names, dtypes, bytes of bands and coordinates."""
    found = hashlib.sha256()
    for name in sorted(dataset.variables):
        values = dataset[name].values
        found.update(f"{name} {dataset[name].dims} {values.dtype} {values.shape}".encode())
        found.update(values.tobytes())
    return found.hexdigest()


def load_at_once(client, geobox, bands, gate, results):
    """Get everything imported, wait until all workers are there, load, and tell who we are and what came."""
    try:
        import icehouse._load  # noqa: F401 - brings in xarray, so that all of them ask at once

        gate.wait(100)
        found = digest(client.load(geobox, bands=bands, timeout=120))
    except Exception as error:  # noqa: BLE001 - the test shows it
        found = repr(error)
    results.put((os.getpid(), found))
