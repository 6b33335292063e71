"""A figure as SVG inside the page: matplotlib's drawing in the page's colours and font, with text as text.

What matplotlib writes is made smaller (styles once, paths joined, a tenth of a pixel), and its colours become the variables of the style sheet, so that
a figure follows the light and the dark theme. Nothing in it needs a style element, a script or a request.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fatescreen.figures.style import COLOURS, FULL_NAME, own_style, place_legend

WIDTH, HEIGHT = 340, 250  # pixels, which are matplotlib's points
TOP, RIGHT, BOTTOM, LEGEND_ROW = 10, 10, 40, 16
PAGE_STYLE = {"axes.labelsize": 12, "xtick.labelsize": 11, "ytick.labelsize": 11, "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "fatescreen"}
VARIABLE = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
STYLES = ("font-size", "font-weight", "text-anchor", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity", "opacity")
DEFAULTS = {"stroke-width": "1", "stroke": "none", "opacity": "1"}
COMMAND = re.compile("([MLCQz])([^MLCQz]*)")
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
HREF = "{http://www.w3.org/1999/xlink}href"


def page_style() -> Any:
    """Matplotlib's settings for the figures of a page, as a context manager or a decorator."""
    return own_style(**PAGE_STYLE)


def panel(height: int = HEIGHT) -> Axes:
    """Axes of a new figure of the page's size, of this height in pixels without the legend."""
    return Figure(figsize=(WIDTH / 72, height / 72)).subplots()


def inline_svg(axes: Axes, *, label: str, prefix: str) -> Markup:
    """The figure of these axes, of `panel`, as an SVG element.

    Parameters
    ----------
    axes
        The only axes of the figure; their legend is placed below them.
    label
        Description of the figure for readers who cannot see it.
    prefix
        Beginning of the ids within the element, different for each figure of a page.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    height = _lay_out(axes, figure)
    file = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)  # the browser has more fonts than matplotlib
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = _Drawing(prefix).convert(ET.fromstring(file.getvalue()))
    size = {"viewBox": f"0 0 {WIDTH} {height}", "width": str(WIDTH), "height": str(height)}
    svg = ET.Element("svg", {"role": "img", "aria-label": label, "stroke-linejoin": "round", **size})
    svg.extend(_joined(drawn))
    return Markup(ET.tostring(svg, encoding="unicode"))


def _lay_out(axes: Axes, figure: Figure) -> int:
    """Place the axes, their y label and the legend below them, from the length of the tick labels alone; the height of the whole in pixels."""
    own = round(figure.get_figheight() * 72)
    left = _left(axes)
    handles, labels = axes.get_legend_handles_labels()
    height = own + LEGEND_ROW * len(labels)
    figure.set_size_inches(WIDTH / 72, height / 72)
    axes.set_position((left / WIDTH, 1 - (own - BOTTOM) / height, (WIDTH - RIGHT - left) / WIDTH, (own - BOTTOM - TOP) / height))
    axes.yaxis.set_label_coords(15 / WIDTH, 1 - (TOP + own - BOTTOM) / 2 / height, transform=figure.transFigure)
    axes.xaxis.set_label_coords((left + WIDTH - RIGHT) / 2 / WIDTH, 1 - (own - 18) / height, transform=figure.transFigure)
    if labels:
        below = {"loc": "upper left", "bbox_to_anchor": (0, LEGEND_ROW * len(labels) / height), "bbox_transform": figure.transFigure}
        place_legend(axes, handles, labels, fontsize=11, borderaxespad=0, borderpad=0.2, labelspacing=0.35, handlelength=2.4, **below)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return height


def _left(axes: Axes) -> int:
    """Room for the names of rows or the y tick labels, and for the y label if there is one."""
    names = [text.get_text() for text in axes.texts]
    if not names:
        low, high = sorted(axes.get_ylim())
        places = [place for place in axes.yaxis.get_majorticklocs() if low <= place <= high]
        names = axes.yaxis.get_major_formatter().format_ticks(places)
    return round(10 + 7 * max(map(len, names), default=0)) + (20 if axes.get_ylabel() else 0)


class _Drawing:
    """Converts matplotlib's elements to short ones whose ids begin with `prefix`."""

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.ids: dict[str, str] = {}

    def convert(self, node: ET.Element) -> list[ET.Element]:
        """The element as the page has it; in place of a wrapper, the elements inside it."""
        name = node.tag.rpartition("}")[2]
        if name in ("metadata", "style"):
            return []
        inside = [made for child in node for made in self.convert(child)]
        if name == "g" and node.get("id", "").startswith(FULL_NAME):
            _add_title(inside[0], node.get("id", "")[len(FULL_NAME) :])
        attributes = self._attributes(node, name)
        if name == "svg" or (name == "g" and not attributes) or (name == "defs" and not inside):
            return inside
        made = _element(name, attributes, inside)
        made.text = node.text if name == "text" else None
        return [made]

    def _attributes(self, node: ET.Element, name: str) -> dict[str, str]:
        out = {}
        for key, value in node.attrib.items():
            key = "href" if key == HREF else key
            if key == "d":
                out[key] = _path(value)
            elif (key == "id" and name in ("path", "clipPath")) or key in ("href", "clip-path"):
                out[key] = re.sub(r"[\w.-]+(?=\)?$)", lambda found: self._id(found[0]), value)
            elif key in ("x", "y", "width", "height", "transform") and not value.startswith("rotate(-0 "):
                out[key] = _short(value)
        return out | _presentation(node.get("style", ""))

    def _id(self, own: str) -> str:
        return self.ids.setdefault(own, f"{self.prefix}{len(self.ids)}")


def _element(name: str, attributes: dict[str, str], inside: list[ET.Element]) -> ET.Element:
    made = ET.Element(name, attributes)
    made.extend(inside)
    return made


def _add_title(text: ET.Element, name: str) -> None:
    """Show the full name when the reader points at a shortened one."""
    title = ET.Element("title")
    title.text, title.tail, text.text = name, text.text, None
    text.insert(0, title)


def _presentation(style: str) -> dict[str, str]:
    """A style as attributes: the page's variables for colours, and nothing that is the default of SVG or of the page."""
    out: dict[str, str] = {}
    for part in filter(None, style.split(";")):
        key, value = (text.strip() for text in part.split(":", 1))
        if key == "font" and (found := re.match(r"(?:(bold|700) )?([\d.]+px)", value)):  # before matplotlib 3.11
            out |= {"font-size": found[2]} | ({"font-weight": "700"} if found[1] else {})
        elif key in ("fill", "stroke"):
            out[key] = value if value == "none" else VARIABLE[value]
        elif key in STYLES:
            out[key] = _short(value)
    return {key: value for key, value in out.items() if DEFAULTS.get(key) != value}


def _short(text: str) -> str:
    """Numbers to a tenth."""
    return NUMBER.sub(lambda found: _tenth(float(found[0])), text)


def _tenth(value: float) -> str:
    return f"{round(value, 1) + 0:g}" if abs(value) < 1e5 else f"{value:.0f}"  # + 0: no minus before a zero


def _path(d: str) -> str:
    """A path's commands without spaces; a command that is repeated is written once, and L is implied after M."""
    out, before = [], ""
    for command, numbers in COMMAND.findall(d):
        implied = command in "LCQ" and (command == before or (command == "L" and before == "M"))
        out.append(" " * implied + command * (not implied) + " ".join(map(_short, numbers.split())))
        before = "" if command == "z" else "L" if implied else command
    return "".join(out)


def _joined(nodes: list[ET.Element]) -> list[ET.Element]:
    """Neighbouring paths of one look as one path, and neighbouring marks of one look in a group that holds it."""
    out: list[ET.Element] = []
    for node in nodes:
        last = out[-1] if out else None
        inside = _joined(list(node))
        if node.tag != "text":
            node[:] = inside
        look = {key: value for key, value in node.attrib.items() if key not in ("d", "x", "y", "href")}
        if node.tag == "path" and last is not None and last.tag == "path" and "id" not in look and look == {k: v for k, v in last.attrib.items() if k != "d"}:
            last.set("d", last.get("d", "") + node.get("d", ""))
        elif node.tag == "use":
            mark = ET.Element("use", {key: value for key, value in node.attrib.items() if key in ("x", "y", "href")})
            if last is not None and last.tag == "g" and last.attrib == look and last[0].tag == "use":
                last.append(mark)
            else:
                out.append(_element("g", look, [mark]))
        else:
            out.append(node)
    return out
