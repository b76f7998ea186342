"""Builds page and warp kernel before files are collected, and binds the wheel to the client's version."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds kernel and page before files are collected, and names the version of the client."""

    def dependencies(self) -> list[str]:
        """Node, where there is something to build."""
        return [self._page().NODE] if self._is_wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build kernel and page; an editable install takes what `make page` has built, and any client."""
        if self.target_name == "wheel":
            self._add_kernel(build_data)
        if version == "editable":
            return
        if self._is_wanted():
            self._page().build()
        if self.target_name == "wheel":
            build_data["dependencies"].append(f"icehouse=={self.metadata.version}")

    def _add_kernel(self, build_data: dict[str, Any]) -> None:
        """Compile the kernel into the package; without a compiler the daemon goes on with GDAL's warp."""
        kernel = _load(Path(self.root) / "kernel" / "build.py")
        try:
            built = kernel.build()
        except kernel.CompilerError as error:
            if os.environ.get("ICEHOUSE_NEEDS_KERNEL"):
                raise
            self.app.display_warning(f"icehouse: going on without the warp kernel: {error}")
            return
        build_data["artifacts"].append(f"/{built.relative_to(self.root).as_posix()}")
        build_data["pure_python"] = False
        build_data["tag"] = kernel.TAG

    def _is_wanted(self) -> bool:
        return not os.environ.get("ICEHOUSE_WITHOUT_PAGE") and not self._page().is_fresh()

    def _page(self) -> ModuleType:
        return _load(Path(self.root) / "page" / "build.py")


def _load(path: Path) -> ModuleType:
    """Import a build script by its path."""
    spec = importlib.util.spec_from_file_location(f"icehouse_{path.parent.name}_build", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
