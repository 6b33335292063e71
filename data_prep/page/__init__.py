"""The reports' common page: blocks, figures, and one self-contained HTML file."""

from data_prep.page.blocks import (
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
from data_prep.page.render import render

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
