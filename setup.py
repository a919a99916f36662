"""A look at the tools that a build needs, and the README as it is read elsewhere.

The build itself is CMake's.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import setup

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; setuptools has one with it
    import tomli as tomllib

ROOT = Path(__file__).parent
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


def readme(project: dict) -> str:
    """README.md for a package index and other places that have no files beside it.

    With a `Source` in [project.urls] its links lead there, to the tag of this version. Without,
    they are the path in the source distribution, in brackets, and so are pictures.
    """
    source = project.get("urls", {}).get("Source")

    def elsewhere(match: re.Match) -> str:
        picture, text, target = match.groups()
        if source is None:
            return f"{text} ({target.partition('#')[0]})"
        view = "raw" if picture else "blob"
        return f"{picture}[{text}]({source.rstrip('/')}/{view}/v{project['version']}/{target})"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = re.compile(r"(!?)\[([^\[\]]+)\]\((?!#|[a-z]+:)([^()\s]+)\)")
    # Every second part is a fenced block.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [relative.sub(elsewhere, part) for part in parts[::2]]
    return "".join(parts)


if __name__ == "__main__":
    if BUILDS & set(sys.argv) and (what := missing()):
        sys.exit(f"yolotf cannot be built: {what}")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        cmake_source_dir=".",
        long_description=readme(declared),
        long_description_content_type="text/markdown",
    )
