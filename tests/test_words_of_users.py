"""The phrases and names that `make lint` refuses (tools/check_words.py)."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECK = ROOT / "tools" / "check_words.py"

PUBLIC = (
    '"""Loads."""\n\n\ndef load(path):\n    """{}"""\n\n\ndef _hidden():\n    """It puts out."""\n'
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project in which every place has a blameless text, and other places have not."""
    for name, text in {
        "README.md": "Loads weights.\n",
        "docs/files.md": "A layer outputs rows.\n",
        "CHANGELOG.md": "# Changes\n\n## Unreleased\n\n* Loads.\n\n## 0.1.0\n\n* It puts out.\n",
        "yolotf/__init__.pyi": "from yolotf.load import load as load\n",
        "yolotf/load.py": PUBLIC.format("Loads `path`."),
        "yolotf/cli.py": 'HELP = "reads a file"  # what it puts out\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


spec = importlib.util.spec_from_file_location("check_words", CHECK)
check_words = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_words)


def phrases(root: Path) -> list[str]:
    return [use.phrase for use in check_words.uses(root)]


def test_comments_old_changes_and_private_docstrings_are_left_alone(project: Path) -> None:
    assert phrases(project) == []


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("README.md", "Fine.\n\nIt puts\nout rows.\n", 3),
        ("docs/files.md", "It puts out rows.\n", 1),
        ("CHANGELOG.md", "# Changes\n\n## Unreleased\n\n* It puts out.\n\n## 0.1.0\n", 5),
        ("yolotf/load.py", PUBLIC.format("It puts out rows."), 5),
        ("yolotf/cli.py", 'x = 1\nHELP = f"{x} puts out {x}"\n', 2),
    ],
)
def test_a_planted_phrase_is_found_with_its_line(
    name: str, text: str, line: int, project: Path
) -> None:
    (project / name).write_text(text)
    run = subprocess.run([sys.executable, CHECK, project], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout == f"{name}:{line}: 'puts out'; write: outputs\n"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("README.md", "An image.\n\n```text\n2 pictures\n```\n\nTwo pictures\n", 7),
        ("CHANGELOG.md", "# Changes\n\n## Unreleased\n\n* Two pictures\n\n## 0.1.0\n", 5),
        ("yolotf/load.py", PUBLIC.format("Loads two pictures."), 5),
        ("yolotf/cli.py", 'add("--all", help="draw pictures")\n', 1),
    ],
)
def test_a_word_of_code_is_found_in_prose_alone(
    name: str, text: str, line: int, project: Path
) -> None:
    (project / name).write_text(text)
    (use,) = check_words.uses(project)
    assert (use.path, use.line, use.phrase) == (project / name, line, "pictures")


@pytest.mark.parametrize(
    "text",
    [
        "It waits for ever.",
        "A mask that is none.",
        "It has a thread of its own.",
        "It decodes otherwise.",
        "The file is no list.",
        "The caller is told the line.",
    ],
)
def test_banned_phrases_are_reported(text: str, project: Path) -> None:
    (project / "README.md").write_text(f"{text}\n")
    assert len(phrases(project)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The default is `None`; otherwise it is none of these.",
        "It is no longer read, and there is no limit.",
        "Pass it, or it computes nothing; otherwise, it computes all.",
        "Two files that are told apart by their size.",
        "The value of `puts out` in a literal.",
        "The output `pictures`.",
    ],
)
def test_similar_correct_phrases_are_allowed(text: str, project: Path) -> None:
    (project / "README.md").write_text(f"{text}\n")
    assert phrases(project) == []


@pytest.mark.parametrize("folder", check_words.CODE)
@pytest.mark.parametrize("name", sorted(check_words.BANNED_NAMES))
def test_a_planted_name_is_reported(name: str, folder: str, project: Path) -> None:
    path = project / folder / "deep" / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text(f"x = 1\n{name} = x\n")
    (use,) = check_words.uses(project)
    assert (use.path, use.line, use.phrase) == (path, 2, name)


@pytest.mark.parametrize(
    "code",
    [
        *("for one in (): pass", "[0 for one in ()]", "def f(one): pass", "lambda one: 0"),
        *(
            "def f(*one): pass",
            "def f(**one): pass",
            "def f(*, one=1): pass",
            "def f(one, /): pass",
        ),
        *("(one := 1)", "with f() as one: pass", "one: int = 1", "one += 1", "a, (*one, b) = c"),
        *("import re as one", "try: pass\nexcept OSError as one: pass"),
        *(f"match a:\n case {pattern}: pass" for pattern in ("one", "[*one]", "{**one}")),
    ],
)
def test_every_way_to_bind_a_name_is_searched(code: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(f"{code}\n")
    assert [use.phrase for use in check_words.banned_names(tmp_path / "code.py")] == ["one"]


@pytest.mark.parametrize(
    "code",
    [
        *("self.found = 1", "class A:\n    found: int", "class A:\n    found: int = 0"),
        *("f(one=1)", "print(one)", "def one(): pass"),
    ],
)
def test_attributes_arguments_and_functions_may_have_any_name(code: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(f"{code}\n")
    assert list(check_words.banned_names(tmp_path / "code.py")) == []


@pytest.mark.slow
def test_the_project_has_no_banned_phrases() -> None:
    assert list(check_words.uses(ROOT)) == []
