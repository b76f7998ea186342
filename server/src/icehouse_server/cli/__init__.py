"""The command ``icehouse``."""

from icehouse_server.cli.commands import main

__all__ = ["main"]
