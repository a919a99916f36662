"""`yolotf build-op` with scripts in place of a compiler; CI compiles the op for real."""

import re
import stat
from importlib import metadata
from pathlib import Path

import pytest
import tensorflow as tf

from support.messages import refused, said
from yolotf import _core, errors
from yolotf.cli.commands import main
from yolotf.weights import op_build, op_library

OP = op_library.op_folder() / f"{op_library.minor(tf.__version__)}.so"
SOURCES = op_library.op_folder() / "source"


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A site-packages folder with a yolotf that pip installed without an op."""
    site = tmp_path / "site"
    (site / "yolotf/_op/source/tensorflow").mkdir(parents=True)
    (site / "yolotf/_op/source/tensorflow/op.cc").touch()
    about = site / "yolotf-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: yolotf\nVersion: 0.1.0\n")
    (about / "RECORD").write_text("yolotf/_core.so,sha256=x,3\nyolotf-0.1.0.dist-info/RECORD,,\n")
    monkeypatch.setattr(_core, "__file__", str(site / "yolotf/_core.so"))
    find = metadata.distribution
    monkeypatch.setattr(
        metadata,
        "distribution",
        lambda name: metadata.PathDistribution(about) if name == "yolotf" else find(name),
    )
    op_library.op_library.cache_clear()
    yield site
    op_library.op_library.cache_clear()


@pytest.fixture
def loaded(monkeypatch):
    """The libraries that TensorFlow was asked to load: it registers an operation only once."""
    libraries = []
    monkeypatch.setattr(tf, "load_op_library", lambda path: libraries.append(Path(path)))
    return libraries


def compiler(monkeypatch, folder, script):
    """Makes `script` the compiler; it writes its arguments to the file `arguments` beside it."""
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/arguments"\n{script}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", f"{path} -pipe")


COPY = f'for last; do :; done; cp "{OP}" "$last"'


def test_the_op_is_compiled_for_the_running_tensorflow_and_tried(
    site, loaded, monkeypatch, tmp_path, capsys
):
    compiler(monkeypatch, tmp_path, COPY)
    assert main(["build-op"]) == 0
    library = site / "yolotf/_op" / OP.name
    assert capsys.readouterr().out == f"built {library}\n"
    assert library.read_bytes() == OP.read_bytes()
    assert [path.name for path in loaded] == [OP.name]
    assert sorted(path.name for path in library.parent.iterdir()) == [OP.name, "source"]
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[0] == "-pipe"
    wanted = {"-std=c++17", "-fPIC", "-shared", str(library.parent / "source/tensorflow/op.cc")}
    assert {*wanted, *tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()} <= set(
        arguments
    )
    assert main(["build-op"]) == 0
    said(capsys.readouterr().out)


def test_pip_uninstall_removes_the_built_op(site, loaded, monkeypatch, tmp_path):
    compiler(monkeypatch, tmp_path, COPY)
    record = site / "yolotf-0.1.0.dist-info/RECORD"
    before = record.read_text()
    record.write_text(f"yolotf/_op/{OP.name},sha256=y,9\n{before}")  # one that pip brought
    for _ in range(2):
        op_build.build()
        assert record.read_text() == f"{before}yolotf/_op/{OP.name},,\n"


def test_op_of_a_checkout_is_entered_in_no_record(site, loaded, monkeypatch, tmp_path):
    compiler(monkeypatch, tmp_path, COPY)
    checkout = tmp_path / "checkout/yolotf"
    (checkout / "_op/source/tensorflow").mkdir(parents=True)
    (checkout / "_op/source/tensorflow/op.cc").touch()
    monkeypatch.setattr(_core, "__file__", str(checkout / "_core.so"))
    before = (site / "yolotf-0.1.0.dist-info/RECORD").read_text()
    assert op_build.build() == checkout / "_op" / OP.name
    assert (site / "yolotf-0.1.0.dist-info/RECORD").read_text() == before


def test_failed_compilation_is_reported_and_changes_nothing(
    site, loaded, monkeypatch, tmp_path, capsys
):
    compiler(monkeypatch, tmp_path, "echo op.cc:1: no such header >&2; exit 1")
    old = site / "yolotf/_op" / OP.name
    old.write_bytes(b"old")
    assert main(["build-op", "--force"]) == 2
    said(capsys.readouterr().err, hide=r"(?<=/compiler) -.*(?=:)")  # its options and files
    assert (old.read_bytes(), loaded) == (b"old", [])
    assert len(list(old.parent.iterdir())) == 2


def test_an_op_that_tensorflow_does_not_load_is_not_kept(site, monkeypatch, tmp_path):
    compiler(monkeypatch, tmp_path, f'{COPY}; echo no library > "$last"')
    with refused(errors.YolotfError, hide=r"(?<=compiled for it: ).*"):
        op_build.build()
    assert [path.name for path in (site / "yolotf/_op").iterdir()] == ["source"]


@pytest.mark.parametrize("built", [[], ["2.9", "2.20"]])
def test_missing_compiler_is_refused(site, monkeypatch, built):
    for minor in built:
        (site / f"yolotf/_op/{minor}.so").touch()
    monkeypatch.setattr(
        metadata, "packages_distributions", lambda: {"tensorflow": ["tensorflow-cpu"]}
    )
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(site))
    with refused(errors.YolotfError):
        op_build.build()


def test_shipped_sources_are_complete_and_all_used():
    names = {path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.*")}
    wanted = {name for name in names if name.endswith(".cc")}
    assert wanted > {"tensorflow/op.cc", "weights/load.cc", "weights/plan.cc"}
    while wanted:
        name = wanted.pop()
        names.discard(name)
        text = (SOURCES / name).read_text()
        for included in re.findall(r'^#include "((?!tensorflow/|absl/)[^"]+)"', text, re.MULTILINE):
            path = SOURCES / included
            assert path.is_file(), f"{name} includes {included}"
            if included in names:
                wanted.add(included)
