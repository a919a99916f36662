"""A diagnosis as text, in colour, as JSON and as a page; the page as a browser draws it."""

from __future__ import annotations

import html
import html.parser
import io
import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_diagnosis import SMALL, trained

from support.messages import said
from yolotf import diagnosis
from yolotf.darknet import cfg
from yolotf.darknet import stock as networks
from yolotf.diagnosis import render as report
from yolotf.weights import layout

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def small() -> cfg.Network:
    return cfg.parse_text(SMALL, source="small.cfg")


@pytest.fixture
def misfit(tmp_path: Path, small: cfg.Network) -> diagnosis.Diagnosis:
    """A file of 5 classes and a network of 2."""
    path = tmp_path / "five.weights"
    path.write_bytes(trained(small.with_classes(5)))
    return diagnosis.diagnose(path, small)


@pytest.fixture
def fitting(tmp_path: Path, small: cfg.Network) -> diagnosis.Diagnosis:
    path = tmp_path / "two.weights"
    path.write_bytes(trained(small))
    return diagnosis.diagnose(path, small)


def test_text_has_verdict_cause_fix_and_place(misfit: diagnosis.Diagnosis) -> None:
    said(str(misfit).replace(misfit.path, "five.weights"))


def test_report_of_a_match_has_three_lines(fitting: diagnosis.Diagnosis) -> None:
    text = str(fitting).replace(fitting.path, "two.weights")
    assert len(text.splitlines()) == 3
    said(text)


def test_report_of_an_unreadable_file_starts_with_it(tmp_path: Path, small: cfg.Network) -> None:
    path = tmp_path / "none.weights"
    said(str(diagnosis.diagnose(path, small)).replace(str(path), "none.weights"))


class Terminal(io.StringIO):
    """A stream that says it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("colours")
def test_terminal_gets_the_same_text_in_colour(misfit: diagnosis.Diagnosis) -> None:
    out = Terminal()
    report.show(misfit, out)
    written = out.getvalue()
    assert "\x1b[1;31m" in written
    words = re.sub(r"\x1b\[[0-9;]*m", "", written).split()
    assert sorted(words) == sorted(str(misfit).split())


@pytest.mark.usefixtures("colours")
def test_no_color_is_respected(
    misfit: diagnosis.Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    report.show(misfit, out)
    assert out.getvalue() == str(misfit) + "\n"


def test_a_pipe_gets_plain_text(misfit: diagnosis.Diagnosis) -> None:
    out = io.StringIO()
    report.show(misfit, out)
    assert out.getvalue() == str(misfit) + "\n"


def test_undecodable_file_names_are_shown(tmp_path: Path, small: cfg.Network) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.weights"
    with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(trained(small)[:300])
    result = diagnosis.diagnose(os.fsdecode(path), small)
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    report.show(result, out)
    out.flush()
    assert rb"\udcff.weights: " in raw.getvalue()
    report.write_html(result, tmp_path / "page.html")
    assert r"\udcff.weights" in (tmp_path / "page.html").read_text("utf-8")
    assert json.loads(report.to_json(result))["ok"] is False


def test_the_page_of_a_diagnosis_is_what_check_writes(
    tmp_path: Path, misfit: diagnosis.Diagnosis
) -> None:
    report.write_html(misfit, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == misfit.to_html()
    assert misfit.causes[0].text in html.unescape(misfit.to_html())


def test_json_is_the_dictionary(misfit: diagnosis.Diagnosis) -> None:
    assert json.loads(report.to_json(misfit)) == misfit.to_dict()


def test_non_finite_numbers_are_null_in_json(tmp_path: Path, small: cfg.Network) -> None:
    content = bytearray(trained(small))
    variance = layout.segments(small)[3]
    start = 20 + variance.offset
    content[start : start + variance.size_bytes] = b"\xff" * variance.size_bytes  # NaNs
    path = tmp_path / "nan.weights"
    path.write_bytes(content)
    arrays = json.loads(report.to_json(diagnosis.inspect(path, small)))["layers"][0]["arrays"]
    assert arrays[3]["stats"]["nonfinite"] == 8
    assert arrays[3]["stats"]["mean"] is None


def test_an_inspection_lists_every_array(fitting: diagnosis.Diagnosis, small: cfg.Network) -> None:
    lines = str(diagnosis.inspect(fitting.path, small)).splitlines()
    assert lines[0] == fitting.path
    table = lines[lines.index("") + 1 :]
    assert table[0].split()[:5] == ["layer", "section", "array", "shape", "byte"]
    assert len(table) - 1 == len(layout.segments(small))
    assert table[5].split()[:5] == ["0", "convolutional", "kernel", "8x3x3x3", "148"]


# The page.


class Page(html.parser.HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_page_needs_no_other_file(misfit: diagnosis.Diagnosis) -> None:
    text = misfit.to_html()
    assert not re.search(r"https?:|//\w+\.|@import|url\(", text)
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed"}
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]


def test_names_are_escaped_in_the_page(tmp_path: Path, small: cfg.Network) -> None:
    name = "<script>alert(1)</script>{{rows}}&amp;.weights".replace("/", "\u2215")
    path = tmp_path / name
    path.write_bytes(trained(small)[:500])
    evil = cfg.parse_text(SMALL, source='"><img src=x>{{strip}}.cfg')
    text = diagnosis.diagnose(path, evil).to_html()
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("ol") == 1
    assert "{{rows}}" in text


PROBE = """
<script>
const strip = document.querySelector(".strip").getBoundingClientRect();
const items = [...document.querySelectorAll(".strip li")].map(item => {
  const box = item.getBoundingClientRect(), style = getComputedStyle(item);
  return {status: item.classList[0], layer: +item.dataset.layer, colour: style.backgroundColor,
          width: box.width, height: box.height, left: box.left, bottom: box.bottom,
          title: item.title, name: item.getAttribute("aria-label")};
});
const press = key => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const shown = () => document.querySelector(".detail").textContent;
const walk = {start: shown()};
document.querySelector('.strip li[tabindex="0"]').focus();
walk.focus = shown();
press("ArrowLeft"); walk.left = shown();
press("Home"); walk.home = shown();
press("End"); walk.end = shown();
document.querySelectorAll(".strip li")[2].dispatchEvent(new MouseEvent("mouseenter"));
walk.hover = shown();
const seen = selector => [...document.querySelectorAll(selector)].map(e => e.innerText);
document.body.dataset.probe = JSON.stringify({
  items, walk, strip: {left: strip.left, right: strip.right, bottom: strip.bottom},
  ground: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.body).color, wide: document.documentElement.scrollWidth,
  view: innerWidth, h1: seen("h1"), findings: seen(".finding"), legend: seen(".legend span"),
});
</script>
</body>
"""


def drawn(
    page: str, folder: Path, *, dark: bool = False, size: tuple[int, int] = (1100, 1000)
) -> dict[str, Any]:
    """How headless Chromium draws a page: boxes, colours, and reactions to keys."""
    if CHROMIUM is None:
        pytest.skip("needs chromium, which is not installed")
    assert page.count("</body>") == 1
    source = folder / "page.html"
    source.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={int(not dark)}",
        "--dump-dom",
        source.as_uri(),
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    (body,) = [attrs for tag, attrs in Page(out).tags if tag == "body"]
    drawing: dict[str, Any] = json.loads(body["data-probe"] or "")
    return drawing


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    parts = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, other_colour: str) -> float:
    lighter, darker = sorted((luminance(colour), luminance(other_colour)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_draws_the_strip_in_three_colours(
    dark: bool, misfit: diagnosis.Diagnosis, tmp_path: Path
) -> None:
    drawing = drawn(misfit.to_html(), tmp_path, dark=dark)
    items = drawing["items"]
    assert [item["status"] for item in items] == ["fits"] * 4 + ["parts", "unreached"]
    assert [item["layer"] for item in items] == list(range(6))
    colours = {item["status"]: item["colour"] for item in items}
    assert len(set(colours.values())) == 3
    assert (luminance(drawing["ground"]) < 0.2) == dark
    assert contrast(drawing["ink"], drawing["ground"]) > 7
    assert contrast(colours["parts"], drawing["ground"]) > 3
    assert contrast(colours["fits"], drawing["ground"]) > 3
    for left, right in itertools.pairwise(items):
        assert left["left"] + left["width"] <= right["left"]
    assert all(item["width"] > 20 and item["height"] > 5 for item in items)
    assert len({round(item["bottom"]) for item in items}) == 1
    # A bar is as high as its layer's floats: layer 3 has most, the pooling and the head none.
    heights = [item["height"] for item in items]
    assert heights[3] == max(heights)
    assert heights[1] == heights[5] == min(heights)


def test_a_browser_shows_verdict_cause_fix_and_numbers(
    misfit: diagnosis.Diagnosis, tmp_path: Path
) -> None:
    drawing = drawn(misfit.to_html(), tmp_path)
    (title,), (finding,) = drawing["h1"], drawing["findings"]
    said(title)
    said(finding)
    said("\n".join(drawing["legend"]))
    first = drawing["items"][0]["title"]
    assert first == drawing["items"][0]["name"]
    said(first, hide=r"-?\d+\.\d+(e-\d+)?")  # the statistics


def test_strip_reacts_to_keys_and_pointer(misfit: diagnosis.Diagnosis, tmp_path: Path) -> None:
    walk = drawn(misfit.to_html(), tmp_path)["walk"]
    assert walk["start"].startswith("layer 4 ")
    assert walk["focus"].startswith("layer 4 ")
    assert walk["left"].startswith("layer 3 ")
    assert walk["home"].startswith("layer 0 ")
    assert walk["end"].startswith("layer 5 ")
    assert walk["hover"].startswith("layer 2 ")


def test_a_browser_draws_a_fitting_network_in_one_colour(
    fitting: diagnosis.Diagnosis, tmp_path: Path
) -> None:
    drawing = drawn(fitting.to_html(), tmp_path)
    said(*drawing["h1"])
    assert {item["status"] for item in drawing["items"]} == {"fits"}
    assert len({item["colour"] for item in drawing["items"]}) == 1
    assert drawing["findings"] == []


def test_a_large_network_fits_a_narrow_window(tmp_path: Path) -> None:
    result = diagnosis.diagnose(tmp_path / "none.weights", "yolov4")
    shown = drawn(result.to_html(), tmp_path, size=(500, 900))
    assert len(shown["items"]) == len(result.subject.network.layers)
    assert {item["status"] for item in shown["items"]} == {"unreached"}
    assert shown["wide"] <= shown["view"]
    assert all(item["width"] >= 2 for item in shown["items"])


PHONE = """
<script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const inner = frame.contentDocument, strip = inner.querySelector(".strip");
  const view = strip.getBoundingClientRect(), detail = inner.querySelector(".detail");
  const part = inner.querySelector(".strip .parts");
  const box = part && part.getBoundingClientRect();
  const seen = {
    wide: inner.documentElement.scrollWidth, inner: frame.contentWindow.innerWidth,
    shown: !!box && box.left >= view.left && box.right <= view.right,
    bar: inner.querySelector(".strip li").getBoundingClientRect().width,
    empty: getComputedStyle(detail).display, height: inner.querySelector(".height").innerText,
  };
  inner.querySelectorAll(".strip li")[2].click();
  seen.touched = detail.innerText;
  document.body.dataset.probe = JSON.stringify(seen);
});
</script>
"""


def on_a_phone(page: str, folder: Path) -> dict[str, Any]:
    """How Chromium draws a page 390 pixels wide, in a frame: its windows have at least 500."""
    if CHROMIUM is None:
        pytest.skip("needs chromium, which is not installed")
    (folder / "page.html").write_text(page, encoding="utf-8")
    outer = folder / "phone.html"
    outer.write_text(
        '<body><iframe src="page.html" style="width:390px;height:844px;border:0"></iframe>'
        f"{PHONE}</body>"
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'phone'}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", outer.as_uri()]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    (body,) = [attrs for tag, attrs in Page(out).tags if tag == "body"]
    drawing: dict[str, Any] = json.loads(body["data-probe"] or "")
    return drawing


def test_a_phone_shows_the_divergence_and_bars_to_touch(tmp_path: Path) -> None:
    path = tmp_path / "three.weights"
    path.write_bytes(trained(networks.network("yolov4-tiny", classes=3)))
    seen = on_a_phone(diagnosis.diagnose(path, "yolov4-tiny").to_html(), tmp_path)
    assert seen["wide"] <= seen["inner"] <= 390
    assert seen["shown"]
    assert seen["bar"] >= 12
    assert seen["touched"].startswith("layer 2 ")
    said(seen["height"])


def test_match_draws_no_empty_box(fitting: diagnosis.Diagnosis, tmp_path: Path) -> None:
    seen = on_a_phone(fitting.to_html(), tmp_path)
    assert seen["empty"] == "none"
    assert seen["touched"].startswith("layer 2 ")
