"""Builds the page into wheel and sdist where it is not built yet; binds the wheel to the client's version."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the page before files are collected, and names the version of the client."""

    def dependencies(self) -> list[str]:
        """Node, where there is something to build."""
        return [self._page().NODE] if self._is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page; an editable install takes what `make page` has built, and any client."""
        if version == "editable":
            return
        if self._is_wanted():
            self._page().build()
        if self.target_name == "wheel":
            build_data["dependencies"].append(f"icehouse=={self.metadata.version}")

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
