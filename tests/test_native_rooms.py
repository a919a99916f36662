"""The folders of csrc/: which may include which, and which only the standard library."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"

BELOW = {
    "base": set(),
    "weights": {"base"},
    "detect": {"base"},
    "tensorflow": {"base", "weights"},
    "python": {"base", "weights", "detect", "tensorflow"},
}
"""The rooms that a room may include, besides itself."""

OUTSIDE = {"tensorflow/op.cc": {"absl", "tensorflow"}}
"""Libraries that only these files include."""

PYTHON = {"Python.h", "pybind11"}


def files(room="*"):
    return sorted(path for path in CSRC.glob(f"{room}/*") if path.suffix in (".cc", ".h"))


def included(path):
    """The files that a source includes: those in quotes and those in angle brackets."""
    text = path.read_text()
    lines = re.findall(r"^\s*#\s*include\s*(\S+)", text, re.MULTILINE)
    assert all(re.fullmatch(r'"[^"]+"|<[^>]+>', line) for line in lines), lines
    return (
        {line[1:-1] for line in lines if line[0] == '"'},
        {line[1:-1] for line in lines if line[0] == "<"},
    )


def test_every_native_file_is_in_a_known_folder():
    assert {path.name for path in CSRC.iterdir()} == set(BELOW)
    assert all(files(room) for room in BELOW)


@pytest.mark.parametrize("room", BELOW)
def test_native_folders_include_only_lower_folders(room):
    for path in files(room):
        name = path.relative_to(CSRC).as_posix()
        quoted, _ = included(path)
        others = {file for file in quoted if not (CSRC / file).is_file()}
        assert {file.partition("/")[0] for file in others} == OUTSIDE.get(name, set()), name
        assert {file.partition("/")[0] for file in quoted - others} <= {room, *BELOW[room]}, name


@pytest.mark.parametrize("room", BELOW)
def test_only_the_modules_know_python(room):
    libraries = {file.partition("/")[0] for path in files(room) for file in included(path)[1]}
    assert (room == "python") == bool(PYTHON & libraries)
    # TensorFlow and other libraries with folders of headers come in quotes; those of the system are
    # flat, or in sys/.
    assert {file for path in files(room) for file in included(path)[1] if "/" in file} <= {
        "sys/mman.h",
        "sys/stat.h",
        *(
            {f"pybind11/{file}.h" for file in ("numpy", "pybind11", "stl")}
            if room == "python"
            else ()
        ),
    }


def test_the_c_api_of_tensorflow_is_called_in_one_file():
    calling = {path.name for path in files() if re.search(r"\bapi\.TF_|dlopen", path.read_text())}
    assert calling == {"runtime.cc"}


def test_native_modules_import_no_python_package_of_ours():
    """Python registers what native code raises: no import contract would see an import from C++."""
    for path in files("python"):
        imported = re.findall(r'import\w*\(\s*"([^"]+)"', path.read_text())
        assert set(imported) <= {"atexit"}, path.name
        assert "yolotf." not in re.sub(r"yolotf\._\w+", "", path.read_text()), path.name
