"""What the package says of itself agrees with itself."""

import importlib.util
import re
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import helpers
import pytest
import tensorflow as tf
from setuptools import find_packages

import yolotf
from yolotf import errors
from yolotf.weights import op_library

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_builds_with_and_without_isolation_take_the_same(pyproject):
    assert pyproject["build-system"]["requires"] == pyproject["dependency-groups"]["build"]


def test_the_version_is_the_same_everywhere(pyproject):
    assert yolotf.__version__ == pyproject["project"]["version"] == metadata("yolotf")["Version"]


def test_no_tensorflow_is_required_by_name(pyproject):
    """tensorflow beside tensorflow-cpu breaks both; an extra brings one to who asks for it."""
    assert not [one for one in pyproject["project"]["dependencies"] if one.startswith("tensorflow")]
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
    for path in (ROOT / "csrc").iterdir():
        assert any(path.relative_to(ROOT).match(pattern) for pattern in included), path
    found = find_packages(str(ROOT), **pyproject["tool"]["setuptools"]["packages"]["find"])
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "yolotf").rglob("*.py")
    }
    assert folders == set(found)


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
        found = forbidden.search(path.read_text(errors="ignore"))
        assert not found, f"{path}: {found.group()}"


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


def test_without_tensorflow_it_is_said_what_to_install(tmp_path):
    weights = tmp_path / "tiny.weights"
    helpers.write_weights(weights, yolotf.network("yolov4-tiny"), scale=0.1)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, weights], capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines[0] == errors.TENSORFLOW_MISSING
    assert (lines[1], lines[-1]) == ("2", "0")
    assert f"yolotf: {errors.TENSORFLOW_MISSING}" in done.stderr
    assert "Traceback" not in done.stderr


# The README outside of the repository.


@pytest.fixture(scope="module")
def setup_script():
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
