"""The reports' common page: blocks, figures, and one self-contained HTML file."""

from fatescreen.report.blocks import (
    Block,
    Cell,
    Choice,
    Column,
    Facts,
    Figure,
    Figures,
    Heading,
    Heat,
    More,
    Notice,
    Page,
    PlainTable,
    Prose,
    Section,
    Table,
    Volcano,
)
from fatescreen.report.render import render

__all__ = [
    "Block",
    "Cell",
    "Choice",
    "Column",
    "Facts",
    "Figure",
    "Figures",
    "Heading",
    "Heat",
    "More",
    "Notice",
    "Page",
    "PlainTable",
    "Prose",
    "Section",
    "Table",
    "Volcano",
    "render",
]
