"""What the files of the repository say about the package agrees."""

import hashlib
import importlib.util
import json
import pickle
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest
import tensorflow as tf
from setuptools import find_packages

import yolotf
from support import helpers
from support.messages import refused, said
from yolotf.weights import op_build, op_library

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_isolated_builds_use_the_build_group(pyproject):
    assert pyproject["build-system"]["requires"] == pyproject["dependency-groups"]["build"]


def test_the_version_is_the_same_everywhere(pyproject):
    assert yolotf.__version__ == pyproject["project"]["version"] == metadata("yolotf")["Version"]


def test_no_tensorflow_is_required_by_name(pyproject):
    """tensorflow beside tensorflow-cpu breaks both; an extra brings one to who asks for it."""
    assert not [
        requirement
        for requirement in pyproject["project"]["dependencies"]
        if requirement.startswith("tensorflow")
    ]
    extras = pyproject["project"]["optional-dependencies"]
    assert (extras["tf"], extras["tf-cpu"]) == (["tensorflow>=2.16"], ["tensorflow-cpu>=2.16"])


def test_there_is_an_op_for_the_running_tensorflow():
    assert op_library.minor(tf.__version__) in op_library.built_minors()


def test_every_module_is_in_the_source_distribution(pyproject):
    included = pyproject["tool"]["scikit-build"]["sdist"]["include"]
    for path in (ROOT / "yolotf").rglob("*"):
        if path.suffix in (".py", ".pyi", ".json") or path.name == "py.typed":
            relative = path.relative_to(ROOT)
            assert any(_matches(relative, pattern) for pattern in included), relative
    native = [path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.*")]
    assert {path.suffix for path in native} == {".cc", ".h"}
    for path in native:
        assert any(_matches(path, pattern) for pattern in included), path
    packages = find_packages(str(ROOT), **pyproject["tool"]["setuptools"]["packages"]["find"])
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "yolotf").rglob("*.py")
    }
    assert folders == set(packages)


def _matches(path: Path, pattern: str) -> bool:
    """`**` stands for any number of folders, none included."""
    words = re.split(r"(\*\*/|\*)", pattern)
    known = {"**/": "(.*/)?", "*": "[^/]*"}
    expression = "".join(known.get(word, re.escape(word)) for word in words)
    return re.fullmatch(expression, path.as_posix()) is not None


def test_data_files_are_in_the_wheel(pyproject):
    patterns = pyproject["tool"]["setuptools"]["package-data"]
    data = [
        path
        for path in (ROOT / "yolotf").rglob("*")
        if path.suffix in (".json", ".pyi") or path.name == "py.typed"
    ]
    assert data
    for path in data:
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert any(path.match(pattern) for pattern in patterns[package]), path


def test_pages_and_workflows_name_targets_that_make_has():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [ROOT / "README.md", ROOT / "RELEASE.md", ROOT / "CONTRIBUTING.md"]
    texts += [*(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.*")]
    named = {}
    for path in filter(Path.is_file, texts):
        text = path.read_text(encoding="utf-8")
        for code in re.findall(r"(?:`|\brun: |^)make ([a-z][a-z0-9-]*)", text, re.MULTILINE):
            named[code] = path
    assert {"lint", "test", "wheel", "docs", "demo", "sanitize"} <= set(named)
    assert {target: path for target, path in named.items() if target not in targets} == {}


@pytest.mark.slow
def test_no_file_names_a_registry_or_a_machine():
    # Put together so that this file does not name them either.
    forbidden = re.compile(
        "|".join(["pypi" + r"\.org", "python" + "hosted", "/" + "work/", "/" + "root/"])
    )
    for path in ROOT.rglob("*"):
        if path.suffix not in (".py", ".pyi", ".md", ".toml", ".cc", ".h", ".txt", ".json") or {
            ".venv",
            "build",
            ".git",
        } & {part.split("-")[0] for part in path.parts}:
            continue
        match = forbidden.search(path.read_text(errors="ignore"))
        assert not match, f"{path}: {match.group()}"


def test_the_public_names_are_those_of_the_stub():
    assert {"Detector", "__version__", "build_model", "load_darknet_weights"} <= set(yolotf.__all__)
    assert dir(yolotf) == yolotf.__dir__()
    for name in yolotf.__all__:
        assert getattr(yolotf, name) is not None
    with pytest.raises(AttributeError):
        _ = yolotf.nothing_of_this_name


WITHOUT_TENSORFLOW = """
import sys
class Nowhere:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nowhere())
import yolotf
from yolotf import errors
from yolotf.cli.commands import main
try:
    yolotf.build_model(yolotf.network("yolov4-tiny", size=64))
except ImportError as error:
    print(error)
print(main(["convert", sys.argv[1], "--cfg", "yolov4-tiny", "-o", sys.argv[1] + ".keras"]))
print(main(["check", sys.argv[1], "--cfg", "yolov4-tiny"]))
"""


@pytest.mark.slow
def test_missing_tensorflow_is_reported_with_the_install_command(tmp_path):
    weights = tmp_path / "tiny.weights"
    helpers.write_weights(weights, yolotf.network("yolov4-tiny"), scale=0.1)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, weights], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    said(lines[0])
    assert (lines[1], lines[-1]) == ("2", "0")
    assert f"yolotf: {lines[0]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_package_is_pickled_by_its_name():
    """A function that uses it goes to another process: Ray, Dask, joblib."""
    assert pickle.loads(pickle.dumps(yolotf)) is yolotf


# The libraries.

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="ELF is Linux's")


@LINUX
@pytest.mark.parametrize("kind", ["_core", "_runtime", "_op"])
def test_libraries_are_hardened(kind):
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf (binutils)")
    folder = Path(yolotf.__file__).parent
    libraries = sorted(
        (folder / "_op").glob("*.so") if kind == "_op" else folder.glob(f"{kind}.*so")
    )
    assert libraries
    for library in libraries:
        command = ["readelf", "-dlW", "--dyn-syms", library]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.search(r"\(FLAGS\) +BIND_NOW", shown), "calls are bound when it is loaded"
        assert "GNU_RELRO" in shown, "and cannot be bound to something else"
        (stack,) = re.findall(r"GNU_STACK .*", shown)
        assert "RWE" not in stack
        assert "__stack_chk_fail" in shown


@LINUX
def test_copies_into_buffers_of_known_size_are_checked(tmp_path):
    """By the flags of `build-op`, which are those of the build; the libraries have none left."""
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    source = tmp_path / "a.cc"
    source.write_text(
        "#include <cstring>\nint f(const char* from, unsigned long size) {\n"
        "  char to[16] = {};\n  std::memcpy(to, from, size);\n  return to[3];\n}\n"
    )
    command = ["c++", *op_build._FLAGS, "-S", "-o", "-", source]
    compiled = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "__memcpy_chk" in compiled
    assert "__stack_chk_fail" in compiled
    cmake = (ROOT / "CMakeLists.txt").read_text()
    for flag in op_build._FLAGS:
        if flag.startswith(("-fstack", "-U", "-D_", "-Wl")):
            assert flag in cmake


# The README outside of the repository.


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def setup_script():
    return module_of(ROOT / "setup.py")


def targets_of(text):
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_of_the_readme_lead_to_the_projects_address(setup_script):
    page = setup_script.readme({"version": "7.1", "urls": {"Source": "https://example.org/a/b/"}})
    here = targets_of((ROOT / "README.md").read_text())
    assert len(here) > 8
    for before, after in zip(here, targets_of(page), strict=True):
        view = "raw" if before.endswith((".jpg", ".png")) else "blob"
        assert after == f"https://example.org/a/b/{view}/v7.1/{before}"


def test_without_an_address_the_readme_names_files_and_links_nowhere(setup_script):
    page = setup_script.readme({"version": "7.1"})
    assert targets_of(page) == []
    assert "(docs/serving.md)" in page
    assert "#where-the-time-goes" not in page


def test_code_and_whole_addresses_in_the_readme_stay(setup_script, tmp_path, monkeypatch):
    text = "[a](https://x.org/y) [b](#b) `c`\n\n```python\nd[0](e)\n```\n"
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr(setup_script, "ROOT", tmp_path)
    assert setup_script.readme({"version": "1", "urls": {"Source": "https://x.org"}}) == text


def test_the_metadata_has_that_readme(setup_script, pyproject, tmp_path):
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "CMakeLists.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "yolotf").mkdir()
    hook = "from scikit_build_core.setuptools import build_meta as b\n"
    hook += "b.prepare_metadata_for_build_wheel('.')"
    subprocess.run([sys.executable, "-c", hook], cwd=tmp_path, check=True, capture_output=True)
    (written,) = tmp_path.glob("*.dist-info/METADATA")
    headers, _, body = written.read_text(encoding="utf-8").partition("\n\n")
    assert "Description-Content-Type: text/markdown" in headers
    assert body.strip() == setup_script.readme(pyproject["project"]).strip()


# The wheel for several TensorFlows, and for other processors. CI builds it.


@pytest.fixture
def build_wheel():
    sys.path.insert(0, str(ROOT / "tools"))  # as for a script
    try:
        return module_of(ROOT / "tools/build_wheel.py")
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_minors_are_those_that_yolotf_knows_oldest_first(build_wheel, monkeypatch):
    said = (
        "tensorflow (2.20.0)\nAvailable versions: 2.20.0, 2.17.1, 2.17.0, 2.16.1, 2.9.3, 1.15.5\n"
    )
    monkeypatch.setattr(build_wheel, "pip", lambda *arguments: said)
    assert build_wheel.Target(platform.machine()).minors() == ["2.16", "2.17", "2.20"]


def test_only_files_needed_by_the_op_are_unpacked(build_wheel, monkeypatch, tmp_path):
    wanted = {
        "tensorflow/include/tensorflow/core/framework/op.h",
        "tensorflow/libtensorflow_framework.so.2",
        "tensorflow_cpu-2.17.1.dist-info/METADATA",
    }
    others = {"tensorflow/libtensorflow_cc.so.2", "tensorflow/__init__.py"}

    def pip(*arguments):
        assert arguments[0] == "download"
        assert arguments[-1].endswith("==2.17.*")
        folder = Path(arguments[arguments.index("-d") + 1])
        with zipfile.ZipFile(folder / "tensorflow_cpu-2.17.1.whl", "w") as packed:
            for name in wanted | others:
                packed.writestr(name, "x")

    monkeypatch.setattr(build_wheel, "pip", pip)
    build_wheel.Target(platform.machine()).unpack("2.17", tmp_path)
    unpacked = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert {name for name in unpacked if (tmp_path / name).is_file()} == wanted


def test_a_wheel_for_another_processor_is_named_after_it(build_wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(build_wheel.platform, "machine", lambda: "x86_64")
    ending = ".cpython-311-x86_64-linux-gnu.so"
    monkeypatch.setattr(build_wheel.sysconfig, "get_config_var", {"EXT_SUFFIX": ending}.get)
    target = build_wheel.Target("aarch64")
    assert "--platform=manylinux_2_28_aarch64" in target.wheels()
    environment = target.environment(tmp_path / "include with a space")
    assert environment["_PYTHON_HOST_PLATFORM"] == "linux-aarch64"
    assert environment["SETUPTOOLS_EXT_SUFFIX"] == ".cpython-311-aarch64-linux-gnu.so"
    options = shlex.split(environment["CMAKE_ARGS"])
    assert f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'tools/aarch64.cmake'}" in options
    assert shlex.split(environment["CXXFLAGS"])[1] == str(tmp_path / "include with a space")
    (config,) = tmp_path.glob("*/aarch64-linux-gnu/python3.*/pyconfig.h")
    text = config.read_text()
    assert "#define HAVE_" in text
    assert "#define HAVE_GCC_ASM_FOR_X" not in text
    assert build_wheel.Target("x86_64").environment(tmp_path) == {}
    with refused(SystemExit):
        build_wheel.Target("riscv64")


# What a wheel is made of.


def a_wheel(folder):
    path = folder / "yolotf-7.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        headers = [
            "Metadata-Version: 2.4",
            "Name: yolotf",
            "Version: 7.1",
            "License-Expression: Apache-2.0",
            "Requires-Dist: numpy>=1.26",
            "Requires-Dist: Pillow>=12.1.1",
            'Requires-Dist: ray[data,serve]>=2.40; extra == "ray"',
            'Requires-Dist: ray[data]>=2.40; extra == "all"',
        ]
        packed.writestr(zipfile.ZipInfo("yolotf-7.1.dist-info/METADATA"), "\n".join(headers))
        packed.writestr(zipfile.ZipInfo("yolotf.libs/libgcc_s.so"), "x")
    return path


def test_a_wheel_has_a_bill_of_materials(tmp_path):
    sbom = module_of(ROOT / "tools/sbom.py")
    wheel = a_wheel(tmp_path)
    written = sbom.write(wheel, ["2.20", "2.21"])
    assert written.name == "yolotf-7.1-py3-none-any.cdx.json"
    content = json.loads(written.read_text())
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.5")
    subject = content["metadata"]["component"]
    assert subject["purl"] == "pkg:pypi/yolotf@7.1"
    assert subject["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    parts = {part["bom-ref"]: part for part in content["components"]}
    assert len(parts) == len(content["components"]), "each reference once"
    assert content["dependencies"] == [{"ref": subject["bom-ref"], "dependsOn": list(parts)}]
    assert parts["pkg:pypi/pillow"]["properties"][0]["value"] == ">=12.1.1"
    assert parts["pkg:pypi/pillow"]["scope"] == "required"
    assert parts["pkg:pypi/ray"]["scope"] == "optional"
    for name in ("pkg:pypi/tensorflow@2.20", "pkg:pypi/tensorflow@2.21"):
        assert name in parts
    assert "file:yolotf.libs/libgcc_s.so" in parts
    assert re.fullmatch(
        r"pkg:pypi/pybind11@\d.*", next(name for name in parts if "pybind11" in name)
    )
    before = written.read_bytes()
    assert sbom.write(wheel, ["2.20", "2.21"]).read_bytes() == before
