"""What the tests need and the wheel does not: servers that go wrong, faults, crashes, oracles.

Tests import it as `support`; a child process finds it through `CHILD_PATH`.
"""

from pathlib import Path

CHILD_PATH = {"PYTHONPATH": str(Path(__file__).parents[1])}
"""Environment of child processes that run a module of this package."""

SERVE = "support.serve"
"""Module that runs the stand-in servers of this package."""
