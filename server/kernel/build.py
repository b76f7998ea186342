"""Compiles the warp kernel into the package, for one platform and all of Python's versions from 3.12 on.

The build of the wheel, and of a checkout, calls it (server/hatch_build.py); ``make`` installs again where
the C files have changed.
"""

import sysconfig
from pathlib import Path

from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "src" / "icehouse_server" / "raster"
TAG = f"cp312-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
"""Of the wheel: the limited API of Python 3.12."""


class CompilerError(Exception):
    """There is no compiler, or it does not take the kernel."""


def build() -> Path:
    """Compile the kernel and return the library, in the package's folder.

    Raises:
        CompilerError: it can't be compiled here.
    """
    windows = sysconfig.get_platform().startswith("win")
    extension = Extension(
        "_warp_kernel",
        [str(HERE / "warp_kernel.c")],
        depends=[str(HERE / "warp_pixels.h")],
        extra_compile_args=[] if windows else ["-O3", "-std=c11"],
        extra_link_args=[] if windows else ["-pthread"],
        libraries=[] if windows else ["m"],
        py_limited_api=True,
    )
    command = build_ext(Distribution({"name": "icehouse-kernel", "ext_modules": [extension]}))
    command.build_lib = str(PACKAGE)
    command.build_temp = str(HERE / "build")
    command.ensure_finalized()
    try:
        command.run()
    except (BaseError, CCompilerError, OSError) as error:
        raise CompilerError(str(error)) from error
    return PACKAGE / command.get_ext_filename("_warp_kernel")
