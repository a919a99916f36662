"""The reader of the pages' blocks, and how their output is compared."""

import pytest

from support import pages

PAGE = """# A page

```python title="a.py"
print(1)
```

```console
$ python a.py
1
$ cd folder
$ ls
...
b
```

<!-- not run: needs a GPU -->
```sh
nvidia-smi
```

```text
of what was not run
```

```python
print(2)
```

prints

```text
2
```
"""


def test_blocks_become_steps_with_their_output():
    todo = pages.steps(pages.blocks(PAGE))
    assert [(step.kind, step.content, step.expected) for step in todo] == [
        ("file", "print(1)\n", None),
        ("sh", "python a.py", "1\n"),
        ("sh", "cd folder", None),
        ("sh", "ls", "...\nb\n"),
        ("python", "print(2)\n", "2\n"),
    ]
    assert [step.line for step in todo] == [3, 7, 7, 7, 25]
    assert [block.not_run for block in pages.blocks(PAGE)].count("needs a GPU") == 1


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a b\nc", "a\n b c"),
        ("took 12.5 ms (3.1 GB/s), 8 threads", "took 9 ms (4 GB/s), 2 threads"),
        ("score 0.4814 at 10", "score 0.4815 at 10"),
        ("[980.7568, 308.02509]", "[980.75671, 308.0251]"),
        ("first\nsecond\nthird", "...\nthird"),
        ("first\nsecond\nthird", "first\n..."),
        ("first\nsecond\nthird", "first ... third"),
        ("x first\nfirst second", "...first second"),
    ],
)
def test_output_that_may_differ(printed, expected):
    assert pages.differs(printed, expected) is None


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a b d", "a b c"),
        ("a b c", "a b"),
        ("a", "a b"),
        ("", "a"),
        ("score 0.51", "score 0.48"),
        ("score 0.4814", "score 0.48"),
        ("score 0.4814639091491699", "score 0.481"),
        ("980.7568", "981.7568"),
        ("(10, 20)-(30, 40)", "(10, 20)-(30, 41)"),
        ("6,062,814 floats", "6,062,815 floats"),
        ("first\nsecond", "second\n..."),
        ("first\nsecond", "...\nfirst"),
        ("first\nsecond", "first ... first"),
    ],
)
def test_output_that_may_not_differ(printed, expected):
    assert pages.differs(printed, expected)


def test_a_page_keeps_its_folder_and_names_to_itself(tmp_path):
    text = """
```sh
mkdir -p inner
cd inner
```
```python
from pathlib import Path
Path("made.txt").write_text("x")
name = "kept"
```
```console
$ ls
$ false
```
```python
print(name)
raise ValueError("no\\nmore")
```
"""
    folder, other = tmp_path / "page", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    todo = pages.steps(pages.blocks(text))
    next_page = pages.steps(pages.blocks("```python\nprint('name' in globals())\n```\n"))
    first, second = pages.run([(todo, folder), (next_page, other)])
    assert second == [("False\n", True)]
    assert first == [
        ("", True),
        ("", True),
        ("made.txt\n", True),
        ("", False),
        ("kept\nValueError: no\nmore\n", False),
    ]


def test_a_page_that_ends_the_process_is_named(tmp_path):
    todo = pages.steps(pages.blocks("```python\nimport os\nos._exit(3)\n```\n"))
    with pytest.raises(RuntimeError, match="page 1 ended the process"):
        pages.run([(todo, tmp_path)])
