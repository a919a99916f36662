"""A look at the tools that a build needs; the build itself is CMake's."""

import os
import shutil
import sys

from setuptools import setup

BUILDS = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}


def missing() -> str | None:
    """What has to be installed before CMake can build anything, in one sentence."""
    compiler = os.environ.get("CXX", "").split()[:1] or ["c++", "g++", "clang++"]
    if not any(map(shutil.which, compiler)):
        return f"no C++ compiler ({' or '.join(compiler)}); on Debian or Ubuntu: apt install g++"
    if not shutil.which("cmake"):
        return "no cmake; install it with: pip install cmake"
    if not any(map(shutil.which, ("ninja", "ninja-build", "make", "gmake"))):
        return "neither ninja nor make; install one with: pip install ninja"
    return None


if BUILDS & set(sys.argv) and (what := missing()):
    sys.exit(f"yolotf cannot be built: {what}")

setup(cmake_source_dir=".")
