"""Adds to pyproject.toml what depends on the TensorFlow at hand; the build itself is CMake's."""

from importlib.metadata import PackageNotFoundError, version

from setuptools import setup


def tensorflow_requirement() -> str:
    """The minor the op is compiled against: its C++ interface changes with every one."""
    for name in ("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-intel"):
        try:
            major, minor = version(name).split(".")[:2]
        except PackageNotFoundError:
            continue
        return f"{name}>={major}.{minor},<{major}.{int(minor) + 1}"
    return "tensorflow>=2.16"  # metadata of a source distribution made without TensorFlow


setup(
    cmake_source_dir=".",
    install_requires=["numpy>=1.26", "pillow>=10.1", "rich>=13", tensorflow_requirement()],
)
