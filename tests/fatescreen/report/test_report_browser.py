"""The reports in a real browser: no requests, no other script, everything by keyboard, at any width, in light and dark mode.

Where there is no Chromium the tests are skipped; with FATESCREEN_TESTS=all its absence is a failure.
"""

import csv
import io
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests import skip
from tests.fatescreen.report.pages import HOSTILE, LONG, texts

KINDS_OF_PAGE = ("fit", "crt", "null")
WIDTHS = (1366, 390, 360)
PROBES = Path(__file__).with_name("report_probes.js").read_text(encoding="utf-8")


def probe(page, call: str):
    """The result of a probe of report_probes.js on the page."""
    return page.evaluate(f"({PROBES.strip()}).{call}")


def chromium() -> str:
    """The browser's path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        skip("no Chromium: set CHROMIUM to its path, or install chromium")
    return str(found)


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    try:
        from playwright import sync_api
    except ImportError:
        skip("no playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reports")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, text in texts().items():
            (out / f"{name}.html").write_text(text, encoding="utf-8")
    return out


@pytest.fixture
def opened(browser, folder):
    """A function that opens a page, watched: requests other than its own, messages, errors and dialogs end up in `page.seen`."""
    contexts = []

    def open_page(kind: str, *, width: int = 1366, scripts: bool = True):
        context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce", java_script_enabled=scripts)
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.seen = []
        page.on("request", lambda request: page.seen.append(f"request {request.url}"))
        page.on("console", lambda message: page.seen.append(f"console {message.type} {message.text}"))
        page.on("pageerror", lambda error: page.seen.append(f"error {error}"))
        page.on("dialog", lambda dialog: (page.seen.append(f"dialog {dialog.message}"), dialog.dismiss()))
        url = (folder / f"{kind}.html").as_uri()
        page.goto(url)
        assert page.seen.pop(0) == f"request {url}"
        return page

    yield open_page
    for context in contexts:
        context.close()


def column(page, table: str, n: int) -> list[str]:
    return page.locator(f"#{table} tbody tr").evaluate_all(f"rows => rows.map(r => r.children[{n}].textContent)")


def number(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


@pytest.mark.parametrize("kind", KINDS_OF_PAGE)
def test_opens_alone_and_never_scrolls_sideways(opened, folder, kind):
    page = opened(kind)
    page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert probe(page, "beyond()") == []
    assert page.locator("section.table tbody tr").count() > 10 and page.locator("h1").count() == 1
    assert page.seen == [] and (folder / f"{kind}.html").stat().st_size < 5_000_000


@pytest.mark.parametrize("kind", KINDS_OF_PAGE)
def test_hostile_names_are_shown_and_run_nothing(opened, kind):
    page = opened(kind)
    table = {"fit": "genes", "crt": "tests", "null": "units"}[kind]
    page.locator(f"#{table} input").fill("onerror")
    assert column(page, table, 0)[0] == HOSTILE and page.locator(".warnings li").first.text_content() == HOSTILE
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")  # what a handler would do has been done
    assert page.locator("img").count() == 0 and page.seen == []


def test_only_our_script_may_run(opened):
    """Even a handler that got into the page is stopped by its policy."""
    page = opened("fit")
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(
            "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x alt=a onerror=alert(3)><script src=https://example.org/x.js></script>')"
        )
    assert not [line for line in page.seen if line.startswith(("dialog", "request http"))]


def test_search_narrows_the_table(opened):
    page = opened("fit")
    page.locator("#genes input").fill("gene1")
    assert len(column(page, "genes", 0)) == 10 and all("GENE1" in name for name in column(page, "genes", 0))
    assert page.locator("#genes .count").text_content() == "10 rows of 40 found"
    page.locator("#genes input").fill("基因")
    assert column(page, "genes", 0) == [LONG]
    page.locator("#genes input").fill("nothing like this")
    assert column(page, "genes", 0) == [] and page.locator("#genes .where").text_content() == "0–0 of 0"


def test_sorting_by_keyboard_alone(opened):
    page = opened("fit")
    page.locator("#genes input").focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.key") == "effect_0":
            break
    head = page.locator("#genes th:has(button[data-key=effect_0])")
    assert head.get_attribute("aria-sort") == "none"
    page.keyboard.press("Enter")
    values = [number(v) for v in column(page, "genes", 4)]
    assert head.get_attribute("aria-sort") == "descending" and values == sorted(values, reverse=True) and len(set(values)) > 10
    page.keyboard.press("Space")
    values = [number(v) for v in column(page, "genes", 4)]
    assert head.get_attribute("aria-sort") == "ascending" and values == sorted(values)
    assert page.locator("#genes th:not([aria-sort=none])[aria-sort]").count() == 1


def test_pages_and_csv_of_what_is_shown(opened):
    page = opened("crt")
    first = column(page, "tests", 0) + column(page, "tests", 1)
    page.locator("#tests .next").press("Enter")
    assert page.locator("#tests .where").text_content() == "26–50 of 180" and column(page, "tests", 0) + column(page, "tests", 1) != first
    page.locator("#tests input").fill("onerror")
    with page.expect_download() as waiting:
        page.locator("#tests .csv").click()
    rows = list(csv.reader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    assert waiting.value.suggested_filename == "tests.csv" and rows[0][:3] == ["target", "program", "β"]
    assert len(rows) == 7 and {row[0] for row in rows[1:]} == {HOSTILE}
    assert [number(v) for v in column(page, "tests", 2)] == pytest.approx([float(row[2]) for row in rows[1:]], abs=6e-4)


@pytest.mark.parametrize(("kind", "total"), [("fit", 40), ("crt", 30)])
def test_the_chooser_changes_the_volcano(opened, kind, total):
    page = opened(kind)
    places = "all => all.map(c => `${c.getAttribute('cx')},${c.getAttribute('cy')}`)"
    seen = set()
    for i in range(3):
        page.locator("#volcano select").select_option(index=i)
        seen.add(tuple(page.locator("#volcano circle").evaluate_all(places)))
        assert f"{total} points" in page.locator("#volcano .readout").text_content()
    assert len(seen) == 3
    page.locator("#volcano input").fill("GENE1" if kind == "fit" else "onerror")
    assert page.locator("#volcano circle.found").count() == (10 if kind == "fit" else 1)


def test_the_volcano_by_keyboard_and_pointer(opened):
    page = opened("fit")
    page.locator("#volcano .canvas").focus()
    shown = set()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        shown.add(page.locator("#volcano .readout").text_content())
        assert page.locator("#volcano .here").count() == 1
    values = [number(text.rsplit("−log10 p ", 1)[1]) for text in shown]
    day = page.locator("#volcano select").input_value()
    assert len(shown) == 3 and max(values) == pytest.approx(probe(page, f"highest('y_{day}')"), abs=0.006)
    point = page.locator("#volcano circle").last
    point.hover(force=True)
    assert "log-odds of MES" in page.locator("#volcano .readout").text_content()


@pytest.mark.parametrize("kind", KINDS_OF_PAGE)
def test_everything_by_keyboard(opened, kind):
    """Each stop of the Tab key shows its focus; every control has a name, and every figure."""
    page = opened(kind)
    assert probe(page, "nameless()") == [] and probe(page, "unmarked()") == 0
    stops = probe(page, "stops().length")
    reached, hidden = 0, []
    for _ in range(stops + 5):
        page.keyboard.press("Tab")
        found = probe(page, "focus()")
        if found is None:
            break
        reached += 1
        hidden += [] if found["seen"] else [found["html"]]
    assert hidden == [] and reached == stops > 25


def test_skip_link(opened):
    page = opened("fit", width=390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip" and page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("kind", KINDS_OF_PAGE)
def test_contrast(opened, kind):
    page = opened(kind)
    page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = probe(page, "contrast()")
        assert len(found) > 20 and {k: round(v, 2) for k, v in found.items() if v < 4.5} == {}
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (np.mean([int(v) for v in shade[4:-1].split(",")]) > 128) == (scheme == "light")


def test_contents_on_a_phone_and_on_a_laptop(opened):
    page = opened("fit", width=390)
    assert not page.locator("nav.side").is_visible() and not page.locator("nav.fold a").first.is_visible()
    page.locator("nav.fold summary").press("Enter")
    page.locator("nav.fold a", has_text="Calibration").press("Enter")
    assert -5 < page.evaluate("document.getElementById('calibration').getBoundingClientRect().top") < 200
    assert not page.locator("nav.fold a").first.is_visible()
    wide = opened("fit")
    wide.evaluate("scrollTo(0, 3000)")
    box = wide.locator("nav.side").bounding_box()
    assert box and 0 <= box["y"] < 100 and not wide.locator("nav.fold").is_visible()


@pytest.mark.parametrize("kind", KINDS_OF_PAGE)
def test_without_scripts(opened, kind):
    page = opened(kind, scripts=False)
    assert page.locator(".notice").first.is_visible() and page.locator("section.table tbody tr").count() > 10 and page.locator("svg[role=img]").count() >= 4
    assert not page.locator("section.table input").first.is_visible() and page.seen == []
