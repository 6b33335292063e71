"""The page toolkit: numbers, data, drawings, and that nothing in a name runs or breaks out."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from fatescreen.figures.charts import counts_histogram, normal_qq, p_histogram, qq_figure, trace
from fatescreen.figures.forest import Estimate, forest
from fatescreen.figures.svg import Axis, Plot, num, tag
from fatescreen.report import Choice, Column, Figures, Heading, Notice, Page, PlainTable, Prose, Section, Table, Volcano, render
from fatescreen.report.blocks import MAX_ROWS
from fatescreen.report.data import Strings, page_json
from fatescreen.report.numbers import packed, shown, signed
from fatescreen.report.record import plain, settings_section, warnings_of
from tests import ROOT

HOSTILE = "</script><img src=x onerror=alert(1)>"
COLUMNS = (Column(key="gene", label="gene"), Column(key="z", label="z", kind="z", help="over its <SD>"))


def make_table(n: int = 3, names: list[str] | None = None, id: str = "own") -> Table:
    frame = pd.DataFrame({"gene": names or [f"G{i}" for i in range(n)], "z": np.linspace(3, -3, n), "y": np.arange(n) / 7})
    return Table(id=id, caption="All genes.", columns=COLUMNS, frame=frame, total=n, full="all.csv")


def make_page(*blocks, warnings=(), title="A page") -> Page:
    return Page(
        run="run",
        title=title,
        summary=[Notice(tone="good", title="Done")],
        warnings=warnings,
        sections=[Section(id="one", title="One", blocks=blocks)],
        footer="f",
    )


class Tags(HTMLParser):
    """Elements with their attributes, and the text of scripts."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag == "script"
        self.scripts += [""] if self.inside else []

    def handle_endtag(self, tag):
        self.inside = False if tag == "script" else self.inside

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (-0.0004, "effect", "0.000"),
        (-1.23456, "effect", "−1.235"),
        (1234567, "count", "1,234,567"),
        (2.57e-244, "p", "2.57e-244"),
        (0.00012345, "p", "1.23e-4"),
        (0.0456, "p", "0.0456"),
        (0.0, "p", "<1e-300"),
        (float("nan"), "z", ""),
        ("−", "text", "−"),
        (-30.361, "z", "−30.36"),
    ],
)
def test_numbers_as_they_are_read(value, kind, text):
    assert shown(value, kind) == text


def test_signs():
    assert signed("0.00") == "0.00" and signed("-0.0") == "0.0" and signed("0.5") == "+0.5" and signed("-0.5") == "−0.5" and signed("0.5", plus=False) == "0.5"


def test_stored_numbers_have_five_digits_and_no_nan():
    assert json.loads(packed([1 / 3, float("nan"), float("inf"), 1e-250, -2.0])) == [0.33333, None, None, 1e-250, -2]


def test_each_string_is_stored_once():
    strings = Strings()
    assert json.loads(strings.codes(["b", "a", "b"])) == [0, 1, 0] and json.loads(strings.codes(["a", "c"])) == [1, 2]


def test_data_round_trip_with_hostile_names():
    names = [HOSTILE, "β-Ärger_基因", "a\u2028b&amp;<!--"]
    text = page_json([make_table(names=names)], rows=MAX_ROWS)
    assert not re.search("[<>&\u2028]", text)
    data = json.loads(text)
    own = data["tables"]["own"]
    assert [data["strings"][i] for i in own["data"]["gene"]] == names and own["data"]["z"] == [3, 0, -3] and set(own["data"]) == {"gene", "z", "y"}


def test_counts_keep_all_their_digits():
    columns = [Column(key="gene", label="gene"), Column(key="cells", label="cells", kind="count"), Column(key="z", label="z", kind="z")]
    frame = pd.DataFrame({"gene": ["A", "B"], "cells": [1_234_567, 0], "z": [1.2345678, float("nan")]})
    own = json.loads(page_json([Table(id="own", caption="", columns=columns, frame=frame, total=2)], rows=9))["tables"]["own"]["data"]
    assert own["cells"] == [1_234_567, 0] and own["z"] == [1.2346, None]


def test_rows_beyond_the_limit_stay_out_and_the_page_says_so():
    table = make_table(100)
    assert json.loads(page_json([table], rows=40))["tables"]["own"]["rows"] == 40
    long = "x" * 400
    big = make_table(MAX_ROWS + 5, names=[f"{long}{i}" for i in range(MAX_ROWS + 5)])
    text = render(make_page(big))
    held = int(re.search(r"The page holds the first ([\d,]+) of 30,005 rows; all are in all\.csv", text)[1].replace(",", ""))
    assert len(text.encode()) < 5_000_000 and held == json.loads(Tags(text).scripts[0])["tables"]["own"]["rows"] < MAX_ROWS


def test_names_are_text_everywhere():
    figure = forest(HOSTILE, [[Estimate(name=HOSTILE, mean=0.1, sd=0.2, own=True)]], x_label=HOSTILE, caption=HOSTILE)
    volcano = Volcano(
        id="v", title=HOSTILE, caption=HOSTILE, table="own", names=("gene",), chooser="Day", choices=[Choice(label=HOSTILE, x="z", y="y")],
        x_label=HOSTILE, y_label="y", flag=("", 1.0), flag_label=HOSTILE,
    )  # fmt: skip
    quoted = trace([1.0, 2.0], title='"><b onclick="x">', y_label="y")
    blocks = [make_table(names=[HOSTILE, '"><b>', "c"]), Figures(items=[figure, quoted]), Heading(text=HOSTILE), Prose(text=[HOSTILE]), volcano]
    blocks.append(PlainTable(caption=HOSTILE, head=(HOSTILE, "b"), rows=[(HOSTILE, HOSTILE)]))
    tags = Tags(render(make_page(*blocks, warnings=[HOSTILE] * 7, title=HOSTILE)))
    names = [name for name, _ in tags.found]
    assert "img" not in names and "b" not in names and names.count("script") == 2
    assert not any(key.startswith("on") for _, attributes in tags.found for key in attributes)


def test_policy_allows_our_script_alone_and_no_request():
    tags = Tags(render(make_page(make_table())))
    policy = next(a["content"] for name, a in tags.found if name == "meta" and a.get("http-equiv"))
    own = base64.b64encode(hashlib.sha256(tags.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{own}'" in policy and "unsafe-eval" not in policy
    assert not [a for name, a in tags.found if name in ("link", "img", "iframe", "object", "base") or "src" in a]
    assert all(a["href"].startswith("#") for name, a in tags.found if name == "a")


def test_structure():
    tags = Tags(render(make_page(make_table(), make_table(60, id="second"), warnings=["careful"]))).found
    ids = [a["id"] for _, a in tags if a.get("id")]
    levels = [int(name[1]) for name, _ in tags if re.fullmatch("h[1-6]", name)]
    assert len(ids) == len(set(ids)) and levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert {"header", "nav", "main", "footer", "caption"} <= {name for name, _ in tags}
    assert all(a.get("scope") in ("col", "row") for name, a in tags if name == "th")
    links = {a["href"][1:] for name, a in tags if name == "a"}
    assert links <= set(ids)


def test_rows_without_scripts():
    text = render(make_page(make_table(80)))
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    assert body.count("<tr>") == 50 and "the first 50 rows" in text and ">−3.00<" not in body


def test_the_same_page_is_the_same_bytes_in_a_fresh_process():
    made = "render(make_page(make_table(9), warnings=['a', 'b']))"
    code = f"import sys; from tests.fatescreen.report.test_page import *; sys.stdout.write(hashlib.sha256({made}.encode()).hexdigest())"
    root = ROOT
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": s, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
        ).stdout
        for s in "12"
    }
    assert runs == {hashlib.sha256(render(make_page(make_table(9), warnings=["a", "b"])).encode()).hexdigest()}


def test_places_in_a_plot():
    plot = Plot(Axis(low=0, high=10, label="x", ticks=()), Axis(low=0, high=1, label="y", ticks=()), width=110, height=70, left=0, bottom=10)
    plot.line([0, 10], [0, 1], "line")
    assert 'd="M0 60 100 10"' in plot.parts[0] and num(-0.04) == "0" and num(2.25) in ("2.2", "2.3")
    assert tag("text", "a<b", class_="x", stroke_width=2) == '<text class="x" stroke-width="2">a&lt;b</text>'


def test_axis_ticks_are_round_and_inside():
    axis = Axis.over([0.013, 0.47], "x")
    assert [t for t, _ in axis.ticks] == pytest.approx([0.0, 0.2, 0.4]) and axis.low < 0.013 and axis.high > 0.47
    assert all(float(t).is_integer() for t, _ in Axis.over([0, 3], "n", whole=True).ticks)
    assert Axis.over([np.nan], "x").high > Axis.over([np.nan], "x").low and Axis.over([2, 2], "x").high > 2


def bar_heights(svg: str) -> list[float]:
    path = re.search(r'd="([^"]*)" class="bar"', svg)[1]
    return [float(floor) - float(top) for floor, top in re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)", path)]


def test_histograms_have_bars_of_the_right_heights():
    p = np.concatenate([np.full(30, 0.01), np.full(10, 0.99), [np.nan]])
    heights = bar_heights(p_histogram(p, title="p").svg)
    assert len(heights) == 2 and heights[0] / heights[1] == pytest.approx(3, rel=0.01)
    heights = bar_heights(counts_histogram(np.array([0, 0, 0, 0, 2, 2]), title="n", x_label="x").svg)
    assert len(heights) == 2 and heights[0] / heights[1] == pytest.approx(2, rel=0.01)
    wide = counts_histogram(np.arange(1000), title="n", x_label="x")
    assert 30 < len(bar_heights(wide.svg)) <= 40 and "mean 500" in wide.svg


def test_qq_says_what_it_shows():
    rng = np.random.default_rng(0)
    figure = qq_figure({"a": rng.random(1000), "b": np.full(5, np.nan), "c": np.array([1e-40, 0.5])}, title="QQ", floor=0.001)
    assert [label for label, _ in figure.legend] == ["a (1,000)", "c (2)", "95 % band of uniform p", "smallest empirical p, 0.001"]
    assert "up to 40" in figure.caption and "c: smallest p 1e−40" in figure.svg and len(figure.svg) < 30_000
    assert "No p-value" in qq_figure({"a": np.full(3, np.nan)}, title="QQ").caption


def test_other_figures_survive_odd_input():
    assert "from 5 to 5 in 1 steps" in trace([5.0], title="t", y_label="y").svg
    assert "20000 steps" in (svg := trace(np.linspace(-9e5, -1, 20_000), title="t", y_label="y").svg) and len(svg) < 12_000
    assert "1e−3" in trace([1.0, 1e-3], title="t", y_label="y", log=True).svg
    assert "2 residuals, SD 1" in normal_qq({"a": np.array([-1.0, 1.0, np.nan]), "none": np.array([])}, title="q", caption="").svg


def test_forest_rows():
    rows = [Estimate(name="d0", mean=1.0, sd=0.5, own=True), Estimate(name="a very long guide name", mean=-1.0, sd=0.1, own=False)]
    svg = forest("G", [rows, rows], x_label="x").svg
    assert svg.count('class="dot own"') == svg.count('class="dot guide"') == 2 and svg.count("ci90") == svg.count("ci95") == 4
    ends = [[float(x) for x in re.findall(r"[\d.]+", d)] for d in re.findall(r'd="([^"]*)" class="ci95 own"', svg)]
    inner = [[float(x) for x in re.findall(r"[\d.]+", d)] for d in re.findall(r'd="([^"]*)" class="ci90 own"', svg)]
    assert (ends[0][2] - ends[0][0]) / (inner[0][2] - inner[0][0]) == pytest.approx(1.96 / 1.645, rel=0.01)
    assert "a very long g…" in svg and "<title>a very long guide name</title>" in svg


def test_record_parts():
    assert warnings_of({"warnings": ["a", "b", "a"]}, "b", "c") == ["a", "b", "c"] and warnings_of({}) == []
    assert plain({"a": {"b": 1, "c": {}}, "d": None, "e": [1, 2], "f": True}) == {"a.b": "1", "a.c": "{}", "d": "none", "e": "1, 2", "f": "yes"}
    section = settings_section({"command": "go", "versions": {"fatescreen": "9"}, "files": ["x.csv", "y"]}, fingerprint="f" * 64, files={"x.csv": "rows"})
    tables = {block.caption: block.rows for block in section.blocks if isinstance(block, PlainTable)}
    assert tables["Files beside this page"] == [("x.csv", "rows"), ("y", "")] and tables["Versions"] == [("fatescreen", "9")]
    assert "fatescreen 9, input fingerprint ffffffffffffffff”" in section.blocks[1].text[0]
