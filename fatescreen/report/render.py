"""`Page` → HTML: one file that needs no other file and sends no request."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fatescreen.report.blocks import MAX_ROWS, STATIC_ROWS, Block, Column, Figure, Page, Table
from fatescreen.report.data import flat, page_json
from fatescreen.report.inline_svg import inline_svg
from fatescreen.report.numbers import shown

MAX_BYTES = 4_800_000


def render(page: Page) -> str:
    """The page as HTML text; the same page gives the same bytes. Tables are shortened until the page is small enough to open anywhere."""
    blocks = list(flat([*page.summary, *(block for section in page.sections for block in section.blocks)]))
    figures = [block for block in blocks if isinstance(block, Figure)]
    drawings = {block: inline_svg(block.axes, label=f"{block.title}: {block.axes.get_label()}", prefix=f"f{i}-") for i, block in enumerate(figures)}
    rows = MAX_ROWS
    while len((text := _rendered(page, blocks, drawings, rows)).encode()) > MAX_BYTES and rows > STATIC_ROWS:
        rows //= 2
    return text


def _rendered(page: Page, blocks: Sequence[Block], drawings: Mapping[Figure, Markup], rows: int) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            style=Markup(style),
            script=Markup(script),
            script_hash=f"'sha256-{digest}'",  # only our own script runs, whatever a name in the data holds
            data=Markup(page_json(blocks, rows=rows)),
            tables={block.id: block for block in blocks if isinstance(block, Table)},
            drawings=drawings,
            rows=rows,
            static_rows=STATIC_ROWS,
        )
        .lstrip()  # the template's macros leave empty lines
    )


@cache
def _asset(name: str) -> str:
    return files("fatescreen.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    env = Environment(loader=PackageLoader("fatescreen.report", "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.globals["static_cells"] = _static_cells
    return env


def _static_cells(frame: pd.DataFrame, columns: list[Column]) -> list[list[tuple[str, bool]]]:
    """The first rows as text, and whether each cell is a number."""
    head = frame.iloc[:STATIC_ROWS]
    values = [[(shown(v, c.kind), c.kind != "text") for v in head[c.key].tolist()] for c in columns]
    return [list(row) for row in zip(*values, strict=True)]
