"""Figures inside a page: small, in the page's colours, with ids of their own, and the same every time."""

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from fatescreen.figures import Estimate, agreement_plot, count_histogram, forest_plot, normal_qq_plot, p_histogram, qq_plot_ntc_pvals
from fatescreen.figures.style import COLOURS
from fatescreen.report.inline_svg import inline_svg, page_style, panel
from tests import ROOT

RNG = np.random.default_rng(0)
P, NTC, MEMBERS = RNG.random(3000) ** 1.3, RNG.random(600), [RNG.random(200) for _ in range(3)]
TABLE = pd.DataFrame({"fate": np.repeat(["_a$\\x$", "基因", "c"], 400), "predicted": RNG.random(1200), "observed": RNG.random(1200), "sd": 0.1})
NAMES = ("day 0", "guide_基因_with_a_long_name", "<b>&\x00\ud800")
DRAWN = {
    "QQ": lambda ax: qq_plot_ntc_pvals(np.r_[P, 1e-40], NTC, NTC**0.9, MEMBERS[0], ensemble=MEMBERS, floor=1e-3, ax=ax),
    "p": lambda ax: p_histogram(P, ax=ax),
    "counts": lambda ax: count_histogram(RNG.poisson(20, 500), x_label="x", ax=ax),
    "residuals": lambda ax: normal_qq_plot({"a": P, "b": NTC}, ax=ax),
    "agreement": lambda ax: agreement_plot(TABLE, ax=ax),
    "forest": lambda ax: forest_plot([[Estimate(name=n, mean=0.1, sd=0.1, main=n == NAMES[0]) for n in NAMES]] * 3, x_label="x", ax=ax),
}


def drawn(kind: str, prefix: str = "f0-") -> str:
    with page_style():
        return str(inline_svg(DRAWN[kind](panel()), label='what "it" <shows>', prefix=prefix))


@pytest.mark.parametrize("kind", DRAWN)
def test_small_and_in_the_colours_of_the_page(kind):
    text = drawn(kind)
    svg = ET.fromstring(text)
    assert svg.get("role") == "img" and svg.get("aria-label") == 'what "it" <shows>' and svg.get("viewBox").startswith("0 0 340 ") and len(text) < 60_000
    used = {value for node in svg.iter() for key, value in node.attrib.items() if key in ("fill", "stroke")}
    assert used <= {"none"} | {f"var(--{name})" for name in COLOURS}
    assert not re.search(r"style|class=|xlink|http|metadata|font-family", text)


@pytest.mark.parametrize("kind", DRAWN)
def test_ids_are_its_own(kind):
    text = drawn(kind, "f7-")
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) and all(i.startswith("f7-") for i in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) == set(ids)


def test_the_same_whatever_the_users_style():
    first = drawn("QQ")
    with mpl.rc_context({"axes.grid": False, "font.size": 20, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert drawn("QQ") == first
    assert drawn("QQ") == first


def test_names_are_written_as_they_are_with_the_full_name_as_title():
    svg = ET.fromstring(drawn("forest"))
    names = [(node.findtext("title"), "".join(node.itertext())) for node in svg.iter("text")]
    assert ("guide_基因_with_a_long_name", "guide_基因_with_a_long_nameguide_基因_with…") in names and (None, "<b>&\ufffd\ufffd") in names
    assert any(text == "\u2009_a$\\x$" for _, text in ((n.findtext("title"), "".join(n.itertext())) for n in ET.fromstring(drawn("agreement")).iter("text")))


def test_points_are_at_their_places():
    """The diagonal of a QQ plot ends at the corner that its last point has."""
    with page_style():
        axes = p_histogram([0.5], ax=panel())
        svg = ET.fromstring(str(inline_svg(axes, label="", prefix="f")))
    line = next(node for node in svg.iter("path") if node.get("stroke") == "var(--muted)" and node.get("stroke-width") == "1.2")
    left, y, right, same = (float(number) for number in re.findall(r"[\d.]+", line.get("d")))
    assert y == same and right == 330 and y == pytest.approx(10 + 200 * (1 - 1 / (20 * 1.06)), abs=0.1) and 30 < left < 70


def test_the_colours_are_those_of_the_style_sheet():
    sheet = (ROOT / "fatescreen" / "report" / "assets" / "page.css").read_text(encoding="utf-8")
    light, dark = sheet.split("prefers-color-scheme: dark")
    for name, colour in COLOURS.items():
        assert f"--{name}: {colour};" in light and f"--{name}: " in dark


def test_the_legend_is_below_the_axes():
    svg = ET.fromstring(drawn("residuals"))
    height = float(svg.get("viewBox").split()[-1])
    legend = [float(node.get("y")) for node in svg.iter("text") if node.text in ("a (3,000)", "b (600)")]
    assert height == 250 + 2 * 16 and len(legend) == 2 and all(250 < y < height for y in legend)
