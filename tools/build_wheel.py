#!/usr/bin/env python3
"""Builds a wheel with the op for several minor versions of TensorFlow, for any processor.

    python tools/build_wheel.py OUTPUT_FOLDER [MINOR ...] [--arch aarch64]

A list of the wheel's components is written beside it (tools/sbom.py).

Without MINOR, the op is built for every TensorFlow from 2.16 on that has a wheel for this Python.
The Python that runs this needs the groups build and wheel of pyproject.toml. Only the wheel of each
TensorFlow is downloaded, and only its headers and one library are unpacked: no TensorFlow is
installed or run.

For another processor, the headers of this Python are used, which differ only in what was found out
when it was compiled; tools/ARCH.cmake names the compiler.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import sbom

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (2, 16)
UNPACKED = re.compile(
    r"tensorflow/include/|tensorflow/libtensorflow_framework\.|tensorflow[^/]*\.dist-info/METADATA"
)


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Runs a command with this Python's scripts first in PATH; returns its output.

    Raises:
        SystemExit: the command failed; its output has been printed.
    """
    scripts = sysconfig.get_path("scripts")
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, "PATH": path, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{shlex.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


def pip(*arguments: str | Path) -> str:
    """Runs this Python's pip."""
    return run(sys.executable, "-m", "pip", *arguments)


class Target:
    """The processor that is built for, and how it differs from this one."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        self.foreign = arch != platform.machine()
        self.toolchain = ROOT / f"tools/{arch}.cmake"
        if self.foreign and not self.toolchain.is_file():
            sys.exit(f"--arch {arch}: there is no {self.toolchain.relative_to(ROOT)}")
        linux_x86 = sys.platform == "linux" and arch == "x86_64"
        # Preferred where it exists: half as large, with the same headers.
        self.tensorflow = "tensorflow-cpu" if linux_x86 else "tensorflow"

    def wheels(self) -> list[str]:
        """Returns pip's arguments for wheels that fit the target."""
        only = ["--only-binary=:all:"]
        if self.foreign:
            tags = [f"manylinux_2_{minor}_{self.arch}" for minor in range(17, 45)]
            only += [f"--platform={tag}" for tag in [f"manylinux2014_{self.arch}", *tags]]
            only += [f"--python-version={sys.version_info[0]}.{sys.version_info[1]}"]
        return only

    def minors(self) -> list[str]:
        """Returns the minor versions of TensorFlow that have wheels, oldest first."""
        said = pip("index", "versions", *self.wheels(), self.tensorflow)
        (versions,) = re.findall(r"^Available versions: (.*)", said, re.MULTILINE)
        minors = {tuple(map(int, version.split(".")[:2])) for version in versions.split(", ")}
        return [".".join(map(str, minor)) for minor in sorted(minors) if minor >= OLDEST]

    def unpack(self, minor: str, folder: Path) -> None:
        """Downloads the last TensorFlow of a minor version, and unpacks what an op needs."""
        with tempfile.TemporaryDirectory() as fetched:
            wanted = f"{self.tensorflow}=={minor}.*"
            pip("download", "-q", "--no-deps", *self.wheels(), "-d", fetched, wanted)
            (wheel,) = Path(fetched).glob("*.whl")
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(folder, filter(UNPACKED.match, packed.namelist()))

    def cmake_arguments(self) -> list[str]:
        """Returns the arguments for both the op and the modules."""
        return [f"-DCMAKE_TOOLCHAIN_FILE={self.toolchain}"] if self.foreign else []

    def environment(self, folder: Path) -> dict[str, str]:
        """Returns the environment in which the backend builds a wheel for the target."""
        if not self.foreign:
            return {}
        here = sysconfig.get_config_var("EXT_SUFFIX")
        suffix = here.replace(platform.machine(), self.arch)
        # Debian's pyconfig.h includes this one by name. Others are beside Python.h, and differ only
        # in what extension modules do not use.
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        config = folder / f"{self.arch}-linux-gnu/{version}/pyconfig.h"
        config.parent.mkdir(parents=True)
        text = Path(sysconfig.get_config_h_filename()).read_text(encoding="utf-8")
        config.write_text(re.sub(r"#define HAVE_GCC_ASM_FOR_X\d+ 1", "", text), encoding="utf-8")
        more = [
            *self.cmake_arguments(),
            f"-DPython_INCLUDE_DIR={sysconfig.get_path('include')}",
            f"-DPYTHON_MODULE_EXTENSION={suffix}",
        ]
        return {
            "CMAKE_ARGS": shlex.join(more),
            "CXXFLAGS": f"-idirafter {shlex.quote(str(folder))}",
            "SETUPTOOLS_EXT_SUFFIX": suffix,
            "_PYTHON_HOST_PLATFORM": f"linux-{self.arch}",
        }


def build(target: Target, minors: list[str], output: Path, work: Path) -> Path:
    """Builds the ops, and the wheel with all of them."""
    ops = work / "ops"
    ops.mkdir()
    for minor in minors:
        headers = work / minor
        target.unpack(minor, headers)
        # One folder for all, because the core is the same.
        folder = work / "build"
        options = ["-DYOLOTF_PYTHON=OFF", f"-DYOLOTF_TENSORFLOW={headers}"]
        run("cmake", "-S", ROOT, "-B", folder, *target.cmake_arguments(), *options)
        run("cmake", "--build", folder, "--target", "_op")
        shutil.copy(folder / f"ops/{minor}.so", ops)
        shutil.rmtree(headers)
        print(f"built the op for TensorFlow {minor}", flush=True)
    # From the source distribution: in a checkout, setuptools would pack files of older builds.
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", work / "sdist", ROOT)
    (source,) = (work / "sdist").glob("*.tar.gz")
    environment = target.environment(work / "include")
    cmake_arguments = f"{environment.get('CMAKE_ARGS', '')} -DYOLOTF_OPS={shlex.quote(str(ops))}"
    run(
        *(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
        *("-w", work / "wheel", source),
        env={**environment, "CMAKE_ARGS": cmake_arguments},
    )
    (wheel,) = (work / "wheel").glob("*.whl")
    if sys.platform != "linux":
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, output))
    # The ops use the TensorFlow that is imported, whichever folder it is in.
    repaired = work / "repaired"
    run(
        *(sys.executable, "-m", "auditwheel", "repair", "-w", repaired),
        *("--exclude", "libtensorflow*", wheel),
    )
    (wheel,) = repaired.glob("*.whl")
    output.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(wheel, output))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT_FOLDER")
    parser.add_argument("minors", nargs="*", metavar="MINOR", help="2.21, say")
    parser.add_argument(
        "--arch", default=platform.machine(), help="the processor, as uname -m has it"
    )
    parsed = parser.parse_args()
    target = Target(parsed.arch)
    minors = parsed.minors or target.minors()
    print(f"the op for TensorFlow {' '.join(minors)}", flush=True)
    with tempfile.TemporaryDirectory() as work:
        wheel = build(target, minors, parsed.output.resolve(), Path(work))
    print(wheel)
    print(sbom.write(wheel, minors))


if __name__ == "__main__":
    main()
