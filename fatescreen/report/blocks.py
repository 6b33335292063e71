"""Parts of a page. The template writes one block after another; `kind` of a block is the name of its macro."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.axes import Axes

from fatescreen.report.numbers import Kind

MAX_ROWS = 30_000  # rows of a table in the page, or fewer if the page would be too large; the CSV has all
STATIC_ROWS = 50  # rows of a table that are also written as HTML, for readers without scripts


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """Paragraphs."""

    kind: ClassVar[str] = "prose"
    text: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """Heading of a part of a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Message in a box; `tone` is "good", "bad" or "plain"."""

    kind: ClassVar[str] = "notice"
    tone: str
    title: str
    text: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names with their values and notes."""

    kind: ClassVar[str] = "facts"
    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """A matplotlib figure of one Axes, whose label describes it, with a heading and a caption."""

    kind: ClassVar[str] = "figure"
    axes: Axes
    title: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Small figures side by side where there is room."""

    kind: ClassVar[str] = "figures"
    items: Sequence[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Column of a table: its key in the frame, its heading, its number format, and its meaning."""

    key: str
    label: str
    kind: Kind = "text"
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Table with search, sorting, pages and CSV download.

    Attributes
    ----------
    id
        Identifier, unique in the page.
    caption
        Caption of the table.
    columns
        Columns that are shown, in this order; other columns of the frame are for volcano plots.
    frame
        Rows in order of importance; the page has the first `MAX_ROWS` or fewer.
    total
        Number of rows of the full table.
    full
        Name of the CSV file with all rows.
    page
        Number of rows on one page of the table.
    """

    kind: ClassVar[str] = "table"
    id: str
    caption: str
    columns: Sequence[Column]
    frame: pd.DataFrame
    total: int
    full: str = ""
    page: int = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTable:
    """Short table without controls; the first cell of a row is its heading."""

    kind: ClassVar[str] = "plain_table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Cell of a heat map: the number, a note below it, its shade from −5 to 5, and whether it is framed."""

    text: str
    note: str = ""
    shade: int = 0
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Heat map as a table, with colours and numbers."""

    kind: ClassVar[str] = "heat"
    caption: str
    corner: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    ends: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One view of a volcano plot: columns for x and y, and with `only` = (column, value) a subset of the rows."""

    label: str
    x: str
    y: str
    only: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volcano:
    """Volcano plot of effects against −log10 p, drawn by the script from the rows of a table.

    Attributes
    ----------
    id
        Identifier, unique in the page.
    title
        Heading of the plot.
    caption
        Caption of the plot.
    table
        Identifier of the table.
    names
        Columns of the table that name a point.
    chooser
        Label of the menu of choices.
    choices
        Views of the plot.
    x_label
        Label of the x axis.
    y_label
        Label of the y axis.
    flag
        (column, limit): points with a value at the limit or below are coloured; with an empty column, those with y at the limit or above.
    flag_label
        Description of the coloured points.
    first
        Position of the choice that is shown first.
    """

    kind: ClassVar[str] = "volcano"
    id: str
    title: str
    caption: str
    table: str
    names: Sequence[str]
    chooser: str
    choices: Sequence[Choice]
    x_label: str
    y_label: str
    flag: tuple[str, float]
    flag_label: str
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """Blocks in a section that the reader can open."""

    kind: ClassVar[str] = "more"
    title: str
    blocks: "Sequence[Block]"


Block = Prose | Heading | Notice | Facts | Figure | Figures | Table | PlainTable | Heat | Volcano | More


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Section of the page with a heading."""

    id: str
    title: str
    blocks: Sequence[Block]
    intro: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: kind of run, title, summary, warnings, sections and footer."""

    run: str
    title: str
    summary: Sequence[Block]
    warnings: Sequence[str]
    sections: Sequence[Section]
    footer: str
