"""Parts of a page: numbers, data, structure, and that nothing in a name is executed."""

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

from fatescreen.figures import Estimate, forest_plot, normal_qq_plot
from fatescreen.report.blocks import MAX_ROWS, Choice, Column, Figure, Figures, Heading, Notice, Page, PlainTable, Prose, Section, Table, Volcano
from fatescreen.report.data import Strings, page_json
from fatescreen.report.glossary import FIT, HITS, NULL, TERMS, TEST, glossary_section
from fatescreen.report.inline_svg import page_style, panel
from fatescreen.report.numbers import packed, shown, signed
from fatescreen.report.record import plain, settings_section, warnings_of
from fatescreen.report.render import render
from tests import ROOT

HOSTILE = "</script><img src=x onerror=alert(1)>"
COLUMNS = (Column(key="gene", label="gene"), Column(key="z", label="z", kind="z", help="over its <SD>"))


def test_the_glossary_has_every_term_and_no_other():
    """Each term belongs to a report; that a page has the section is tested with each report."""
    used = {row[0] for names in (FIT, HITS, TEST, NULL) for row in glossary_section(*names).blocks[0].rows}
    assert used == set(TERMS) and all(meaning[-1] not in ".;" for meaning in TERMS.values())


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


def test_rows_beyond_the_limit_are_left_out_and_counted():
    table = make_table(100)
    assert json.loads(page_json([table], rows=40))["tables"]["own"]["rows"] == 40
    long = "x" * 400
    big = make_table(MAX_ROWS + 5, names=[f"{long}{i}" for i in range(MAX_ROWS + 5)])
    text = render(make_page(big))
    held = int(re.search(r"This page has the first ([\d,]+) of 30,005 rows; all are in all\.csv", text)[1].replace(",", ""))
    assert len(text.encode()) < 5_000_000 and held == json.loads(Tags(text).scripts[0])["tables"]["own"]["rows"] < MAX_ROWS


def test_names_are_text_everywhere():
    with page_style():
        forest = forest_plot([[Estimate(name=HOSTILE, mean=0.1, sd=0.2, main=True)]], x_label=HOSTILE, ax=panel())
        residuals = normal_qq_plot({'"><b onclick="x">': np.array([1.0, 2.0]), "<b>\x00": np.array([0.0])}, ax=panel())
    figures = [Figure(axes=forest, title=HOSTILE, caption=HOSTILE), Figure(axes=residuals, title='"><b onclick="x">')]
    volcano = Volcano(
        id="v", title=HOSTILE, caption=HOSTILE, table="own", names=("gene",), chooser="Day", choices=[Choice(label=HOSTILE, x="z", y="y")],
        x_label=HOSTILE, y_label="y", flag=("", 1.0), flag_label=HOSTILE,
    )  # fmt: skip
    blocks = [make_table(names=[HOSTILE, '"><b>', "c"]), Figures(items=figures), Heading(text=HOSTILE), Prose(text=[HOSTILE]), volcano]
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


@pytest.mark.slow
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


def test_record_parts():
    assert warnings_of({"warnings": ["a", "b", "a"]}) == ["a", "b"] and warnings_of({}) == []
    assert plain({"a": {"b": 1, "c": {}}, "d": None, "e": [1, 2], "f": True}) == {"a.b": "1", "a.c": "{}", "d": "none", "e": "1, 2", "f": "yes"}
    section = settings_section({"command": "go", "versions": {"fatescreen": "9"}, "files": ["x.csv", "y"]}, fingerprint="f" * 64, files={"x.csv": "rows"})
    tables = {block.caption: block.rows for block in section.blocks if isinstance(block, PlainTable)}
    assert tables["Files in the folder of this page"] == [("x.csv", "rows"), ("y", "")] and tables["Versions"] == [("fatescreen", "9")]
    assert "fatescreen 9, input fingerprint ffffffffffffffff”" in section.blocks[1].text[0]
