"""The pages name what exists, and a clone suffices to run what they show."""

import ast
import importlib
import re
import textwrap
from pathlib import Path

import pytest

import yolotf
from support import pages
from yolotf import errors
from yolotf.cli import demo
from yolotf.cli.demo_data import DemoDataError, demo_data
from yolotf.weights import layout

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
COMMAND = re.compile(
    r"^(?:[$>] .*|(?:import|from|yolotf|python|pip|make|curl|docker) .*)", re.MULTILINE
)
LANGUAGES = {"", "diff", "text", "yaml", "json", "toml", *pages.RUN}


def name_of(page):
    return str(page.relative_to(ROOT))


def text_of(page):
    return page.read_text(encoding="utf-8")


def without_blocks(text):
    return pages.FENCE.sub("", text)


ALL = pytest.mark.parametrize("page", PAGES, ids=name_of)
RUN = [page for page in PAGES if pages.steps(pages.blocks(text_of(page)))]


@ALL
def test_links_lead_to_files_and_headings_of_the_repository(page):
    for target in re.findall(r"\]\(([^)]+)\)", without_blocks(text_of(page))):
        if "://" not in target:
            path, _, heading = target.partition("#")
            leads_to = page.parent / path if path else page
            assert leads_to.exists(), target
            assert not heading or heading in headings(leads_to), target


def headings(page):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_page_of_docs_is_in_the_sites_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": (\S+\.md)$", menu, re.MULTILINE))
    assert listed == {
        str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")
    }


@ALL
def test_every_block_is_run_shown_or_says_why_not(page):
    """Code is fenced, with a language that `pages` runs; other fences hold no code."""
    text = text_of(page)
    for block in pages.blocks(text):
        where = f"line {block.line}"
        assert block.language in LANGUAGES, where
        if block.not_run is not None:
            assert len(block.not_run.split()) >= 2, f"{where}: no reason"
        elif block.language in ("yaml", "json", "toml"):
            assert block.title, f"{where}: neither a file's content nor marked `not run: ...`"
        elif not block.language:
            code = COMMAND.search(block.content)
            assert not code, f"{where}: {code and code[0]}... in a block without a language"
    for indented in re.findall(r"\n\n((?:(?: {4}|\t).*\n)+)", without_blocks(text)):
        code = COMMAND.search(textwrap.dedent(indented))
        assert not code, f"{code and code[0]}... is indented, not fenced, so it is not run"


@ALL
def test_python_blocks_compile_and_use_existing_names(page):
    for block in pages.blocks(text_of(page)):
        if block.language == "python":
            compile(block.content, str(page), "exec")
            for name in re.findall(r"\byolotf\.(\w+)\(", block.content):
                assert hasattr(yolotf, name), name


def test_each_module_of_compat_has_a_page_with_its_lines():
    """What a page says to write in place of the old lines can be imported."""
    modules = set()
    for page in (ROOT / "docs/compat").glob("*.md"):
        for block in pages.blocks(text_of(page)):
            if block.language == "diff":
                for line in re.findall(r"^\+(from .+)$", block.content, re.MULTILINE):
                    exec(line, {})
                    modules.add(line.split()[1])
    written = (ROOT / "yolotf/compat").glob("[!_]*.py")
    assert modules == {f"yolotf.compat.{path.stem}" for path in written}


REFERENCE = [
    path
    for page in sorted((ROOT / "docs/api").glob("*.md"))
    for path in re.findall(r"^::: (\S+)$", text_of(page), re.MULTILINE)
]


@pytest.mark.parametrize("path", REFERENCE)
def test_the_reference_names_existing_objects(path):
    module, _, name = path.rpartition(".")
    if path == "yolotf.detect_dataset":
        pytest.importorskip("ray", reason="needs Ray, as make test-ray has it")
    assert hasattr(importlib.import_module(module), name)


def test_every_public_name_is_in_the_reference():
    named = {path.rpartition(".")[2] for path in REFERENCE} | set(dir(errors)) | {"__version__"}
    assert set(yolotf.__all__) <= named


@ALL
def test_python_blocks_import_public_names_only(page):
    """Those of the package itself, and of the reference."""
    for block in pages.blocks(text_of(page)):
        if block.language != "python" or (block.not_run or "").startswith("a sketch"):
            continue
        for node in ast.walk(ast.parse(block.content)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yolotf."):
                for name in node.names:
                    path = f"{node.module}.{name.name}"
                    assert any(
                        documented == path or documented.startswith(f"{path}.")
                        for documented in REFERENCE
                    ), path


def test_the_sizes_of_the_files_are_those_of_the_networks():
    rows = re.findall(r"^\| ([\w-]+) \| ([\d,]+) \|", text_of(ROOT / "docs/index.md"), re.MULTILINE)
    assert len(rows) > 10
    for name, size in rows:
        floats = max(segment.end for segment in layout.segments(yolotf.network(name)))
        # Older files have the narrower header.
        assert int(size.replace(",", "")) - floats in (16, 20), name


@pytest.fixture(scope="module")
def demo_files():
    try:
        return demo_data()
    except DemoDataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def results(request, demo_files, tmp_path_factory):
    """What the pages print whose tests are to be run, each in a folder of its own.

    It holds nothing, or what `yolotf demo` leaves.
    """
    wanted = [
        item.callspec.params["page"]
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_pages_print_what_they_show"
    ]
    sessions = []
    for page in wanted:
        todo = pages.steps(pages.blocks(text_of(page)))
        folder = tmp_path_factory.mktemp(page.stem)
        if not pages.demo_is_run(todo):
            demo.copy_files(demo_files, folder)
        sessions.append((todo, folder))
    return dict(zip(wanted, pages.run(sessions), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_pages_print_what_they_show(page, results):
    """Runs the blocks of a page from top to bottom."""
    text = text_of(page)
    assert "yolotf demo" in text, "the page does not say where its files are from"
    todo = pages.steps(pages.blocks(text))
    for step, (printed, well) in zip(todo, results[page], strict=True):
        where = f"{name_of(page)}, line {step.line}"
        if step.expected is None:
            assert well, f"{where} failed:\n{step.content}\n{printed}"
        else:
            wrong = pages.differs(printed, step.expected)
            assert not wrong, f"{where}: {wrong}"
