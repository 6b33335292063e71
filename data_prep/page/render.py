"""`Page` → HTML: one file that needs nothing else, and asks for nothing."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from data_prep.page.blocks import STATIC_ROWS, Column, Page
from data_prep.page.data import page_json
from data_prep.page.numbers import shown


def render(page: Page) -> str:
    """The page as HTML text; the same page gives the same bytes."""
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    blocks = [block for section in page.sections for block in section.blocks]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            style=Markup(style),
            script=Markup(script),
            script_hash=f"'sha256-{digest}'",  # only our own script runs, whatever a name in the data holds
            data=Markup(page_json([*page.summary, *blocks])),
            static_rows=STATIC_ROWS,
        )
    )


@cache
def _asset(name: str) -> str:
    return files("data_prep.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    env = Environment(loader=PackageLoader("data_prep.page", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.globals["static_cells"] = _static_cells
    return env


def _static_cells(frame: pd.DataFrame, columns: list[Column]) -> list[list[tuple[str, bool]]]:
    """The first rows as text, and whether each cell is a number."""
    head = frame.iloc[:STATIC_ROWS]
    values = [[(shown(v, c.kind), c.kind != "text") for v in head[c.key].tolist()] for c in columns]
    return [list(row) for row in zip(*values, strict=True)]
