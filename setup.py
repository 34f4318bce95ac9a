"""What pyproject.toml cannot say: the C extension, left out with a warning when it does not compile.

`CASIMG_NATIVE=require` makes a failed compile an error.
"""

import os

from setuptools import setup
from setuptools.command.build_ext import build_ext


class OptionalBuildExt(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        for extension in self.extensions or []:
            extension.optional = os.environ.get("CASIMG_NATIVE") != "require"


setup(cffi_modules=["native/build.py:ffibuilder"], cmdclass={"build_ext": OptionalBuildExt})
