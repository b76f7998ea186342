"""What is imported before a command does anything: each start of a daemon waits for it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "without"),
    [
        # pandas alone takes a third of a second.
        ("icehouse_server.cli.serving", {"xarray", "pandas", "httpx", "ee", "matplotlib"}),
        ("icehouse_server.cli.commands", {"fastapi", "icechunk", "numpy", "httpx"}),
    ],
)
def test_a_command_imports_what_it_needs_when_it_runs(module, without):
    code = f"import sys, {module}; print(*{without!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
