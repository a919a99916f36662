"""Runs the code on the pages, and compares what it prints.

Each page has a folder and a namespace. Its fenced blocks run from top to bottom:

* ```python runs in the namespace; with `title="name.py"`, the block is written to that file
  instead, as are blocks of any other language with a title;
* ```sh runs in bash, in the folder where the last block ended;
* ```console has commands after `$ `, each followed by what it prints;
* ```text has what the block before it prints. `...` stands for any text.

Blocks below `<!-- not run: REASON -->` are not run, nor is ```diff. Fences without a language hold
no code. A command may fail, and a Python block may raise, only if the page shows the message.

    python tests/support/pages.py docs/files.md  # prints the differences
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^>]*?) -->\n+)?^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
NOTICES = re.compile(r"^(?:[IW]\d{4} |WARNING: All log messages before absl).*\n", re.MULTILINE)
"""What TensorFlow logs about itself on stderr."""
RUN = ("python", "sh", "console")


class Block(NamedTuple):
    """A fenced block: its language, title, content, line, and why it is not run."""

    language: str
    title: str | None
    content: str
    line: int
    not_run: str | None


class Step(NamedTuple):
    """A step at a line of the page; `expected` is its output, None if the page shows none."""

    kind: str
    content: str
    line: int
    expected: str | None = None
    title: str | None = None


def blocks(text: str) -> list[Block]:
    """Returns the fenced blocks of a page."""
    fenced = []
    for match in FENCE.finditer(text):
        language, *rest = match["info"].split(maxsplit=1) or [""]
        title = re.search(r'title="([^"]+)"', rest[0]) if rest else None
        mark = re.fullmatch(r"not run: (.+)", match["mark"] or "", re.DOTALL)
        content = re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("info")) + 1
        fenced.append(Block(language, title and title[1], content, line, mark and mark[1]))
    return fenced


def steps(page_blocks: list[Block]) -> list[Step]:
    """Returns the steps of a page's blocks, in order."""
    todo: list[Step] = []
    skipped = False
    for block in page_blocks:
        if block.not_run or block.language in ("", "text"):
            if block.language == "text" and not block.not_run and not skipped:
                assert todo, f"line {block.line}: output of no block"
                assert todo[-1].expected is None, f"line {block.line}: a second output"
                todo[-1] = todo[-1]._replace(expected=block.content)
            skipped = bool(block.not_run) or (skipped and block.language == "text")
            continue
        skipped = False
        if block.title:
            todo.append(Step("file", block.content, block.line, title=block.title))
        elif block.language == "console":
            for part in re.split(r"^\$ ", block.content, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                todo.append(Step("sh", command, block.line, output if output.strip() else None))
        elif block.language in RUN:
            todo.append(Step(block.language, block.content, block.line))
    return todo


class Result(NamedTuple):
    """What a step printed, and whether it ended without an error."""

    printed: str
    well: bool


def run(sessions: list[tuple[list[Step], Path]], *, timeout: float = 1800) -> list[list[Result]]:
    """Runs the steps of each page in its folder; returns the results of each.

    All pages run in one process, which imports TensorFlow once; each has a separate namespace. The
    commands `yolotf` and `python` are those of this interpreter.

    Raises:
        RuntimeError: the process died.
    """
    with tempfile.TemporaryDirectory() as commands:
        for name, arguments in (("yolotf", "-m yolotf"), ("python", "")):
            script = Path(commands) / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            script.chmod(0o755)
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(paths),
            "COLUMNS": "120",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        process = subprocess.run(
            [sys.executable, __file__, "--sessions"],
            input=json.dumps([(todo, str(folder)) for todo, folder in sessions]),
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
        )
    answers = [
        [Result(*fields) for fields in json.loads(line)] for line in process.stdout.splitlines()
    ]
    if len(answers) < len(sessions):
        raise RuntimeError(f"page {len(answers) + 1} ended the process: {process.stderr}")
    return answers


def serve() -> None:
    """Runs in the child: reads sessions as JSON from stdin, writes a JSON line for each."""
    sessions = json.load(sys.stdin)
    # Libraries that print on descriptor 1 must not interrupt the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, "")
    for todo, folder in sessions:
        os.chdir(folder)
        namespace: dict[str, object] = {"__name__": "__main__"}
        results = [_do(Step(*step), namespace) for step in todo]
        print(json.dumps(results), file=answers, flush=True)


def _do(step: Step, namespace: dict[str, object]) -> Result:
    match step.kind:
        case "python":
            return _python(step, namespace)
        case "file":
            Path(step.title).write_text(step.content, encoding="utf-8")
            return Result("", True)
        case _:
            return _shell(step)


def _python(step: Step, namespace: dict[str, object]) -> Result:
    printed, well = io.StringIO(), True
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(step.content, f"<line {step.line}>", "exec"), namespace)
        except Exception as error:
            well = False
            print("".join(traceback.format_exception_only(error)), end="")
    return Result(printed.getvalue(), well)


def _shell(step: Step) -> Result:
    # `cd` also applies to later blocks.
    read, write = os.pipe()
    script = f"set -e\ntrap 'pwd >&{write}' EXIT\n{step.content}"
    done = subprocess.run(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        pass_fds=(write,),
    )
    os.close(write)
    with os.fdopen(read) as end:
        os.chdir(end.read().strip())
    return Result(NOTICES.sub("", done.stdout), done.returncode == 0)


def differs(printed: str, expected: str) -> str | None:
    """Returns where the output differs from what the page shows; None if it does not.

    Spaces and line breaks do not count, and `...` stands for any text. Numbers of threads, and
    numbers before a unit of time or speed, may have any value. Decimals may differ by one in the
    last place, and must not have more places than the page shows. Numbers with all digits of
    float32 may differ from the fifth digit on, as they do between processors.
    """
    tokens = _tokens(printed)
    position, free = 0, False
    for piece in expected.split("..."):
        wanted = _tokens(piece)
        last = len(tokens) - len(wanted)
        starts = range(position, last + 1) if free else range(position, min(position, last) + 1)
        for start in starts:
            if all(map(_same, wanted, tokens[start:])):
                position = start + len(wanted)
                break
        else:
            return f"{piece.strip()}\n--- is not what was printed from here on:\n" + " ".join(
                tokens[position:]
            )
        free = True
    if tokens[position:] and not expected.rstrip().endswith("..."):
        return "not on the page: " + " ".join(tokens[position:])
    return None


def _tokens(text: str) -> list[str]:
    text = re.sub(r"[\d.]+ (ms|s|[GMk]B/s|threads?)\b", r"# \1", text)
    return re.findall(r"\d+(?:\.\d+)?|[^\W\d]+|[^\w\s]", text)


def _same(wanted: str, printed: str) -> bool:
    if wanted == printed or "." not in wanted[1:] or "." not in printed[1:]:
        return wanted == printed
    difference = abs(float(wanted) - float(printed))
    if min(_digits(wanted), _digits(printed)) >= 6:
        return difference < 1e-4 * abs(float(wanted))
    places = len(wanted.partition(".")[2])
    return len(printed.partition(".")[2]) <= places and difference < 1.5 * 10**-places


def _digits(number: str) -> int:
    return len(number.replace(".", "").lstrip("0"))


def main() -> None:
    """Prints what the blocks of a page print, in a folder of `yolotf demo`."""
    from yolotf.cli import demo, demo_data

    todo = steps(blocks(Path(sys.argv[1]).read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        if not demo_is_run(todo):
            demo.copy_files(demo_data.demo_data(), Path(folder))
        (results,) = run([(todo, Path(folder))])
    for step, (printed, well) in zip(todo, results, strict=True):
        wrong = differs(printed, step.expected) if step.expected is not None else None
        print(f"--- line {step.line}: {step.kind}{'' if well else ', failed'}")
        if wrong or not well or step.expected is None:
            print(printed, f"=== {wrong}\n" if wrong else "", sep="", end="")


def demo_is_run(todo: list[Step]) -> bool:
    """Returns whether the page creates its files itself."""
    return any(step.kind == "sh" and "yolotf demo" in step.content for step in todo)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--sessions"] else main()
