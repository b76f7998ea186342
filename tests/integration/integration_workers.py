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


def load_each(client, wanted, gate, results, number):
    """Load one band of one region after the other, as soon as all workers are there; tell the pixels of each.

    Args:
        client: of the daemon.
        wanted: pairs of a geobox and the name of a band.
        gate: where all workers meet.
        results: gets ``number`` and a list of bytes, or the error as text.
        number: which worker this is.
    """
    try:
        import icehouse._load  # noqa: F401

        gate.wait(100)
        found = [client.load(box, bands=[band], timeout=120)[band].values.tobytes() for box, band in wanted]
    except Exception as error:  # noqa: BLE001 - the test shows it
        found = repr(error)
    results.put((number, found))
