"""How many connections fit into the open files that the system allows."""

from __future__ import annotations

import pytest

from icehouse_server.cli.serving import fit_connections
from icehouse_server.core.errors import ConfigurationError
from icehouse_server.core.limits import ConnectionLimits


@pytest.mark.parametrize(("files", "fits"), [(256, 64), (1024, 448), (1536, 512), (100_000, 512)])
def test_connections_leave_files_for_the_rest(files, fits):
    found = fit_connections(ConnectionLimits(connections=512), files)
    assert found.connections == fits


def test_few_connections_are_left_as_they_are():
    assert fit_connections(ConnectionLimits(connections=8), 256).connections == 8


def test_too_few_files_are_refused_with_a_remedy():
    with pytest.raises(ConfigurationError, match="open 100 files") as caught:
        fit_connections(ConnectionLimits(), 100)
    assert "ulimit -n" in caught.value.hint
