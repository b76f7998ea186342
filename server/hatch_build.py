"""Builds the page into wheel and sdist, where it is not built yet."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the page before files are collected."""

    def dependencies(self) -> list[str]:
        """Node, where there is something to build."""
        return [self._page().NODE] if self._is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the page; an editable install takes what `make page` has built."""
        if version != "editable" and self._is_wanted():
            self._page().build()

    def _is_wanted(self) -> bool:
        return not os.environ.get("ICEHOUSE_WITHOUT_PAGE") and not self._page().is_fresh()

    def _page(self) -> ModuleType:
        path = Path(self.root) / "page" / "build.py"
        spec = importlib.util.spec_from_file_location("icehouse_page_build", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} can't be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
