"""What a page is made of. The template draws one block after another; each names the macro that draws it in `kind`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.axes import Axes

from fatescreen.report.numbers import Kind

MAX_ROWS = 30_000  # of a table in the page; the CSV beside it has all. Fewer where the page would be too large
STATIC_ROWS = 50  # of a table that are in the page as HTML, for readers without scripts


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """Paragraphs."""

    kind: ClassVar[str] = "prose"
    text: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """The heading of a part of a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to heed; `tone` is "good", "bad" or "plain"."""

    kind: ClassVar[str] = "notice"
    tone: str
    title: str
    text: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names with their values, and a note on each."""

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
    """A column of a table: its key in the frame, its heading, how it is written, and what it means."""

    key: str
    label: str
    kind: Kind = "text"
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table with search, sorting, pages and a CSV of what is shown.

    Attributes
    ----------
    id, caption
        Of the table; the id is unique in the page.
    columns
        What is shown, in this order; other columns of the frame are for figures.
    frame
        The rows, best first; the page holds the first `MAX_ROWS` or fewer.
    total
        Rows there are in all.
    full
        Name of the CSV that has them all.
    page
        Rows at a time.
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
    """A short table without controls: headings, and rows of text whose first cell names the row."""

    kind: ClassVar[str] = "plain_table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a heat map: the number, a note beneath it, its shade from −5 to 5, and whether it stands out."""

    text: str
    note: str = ""
    shade: int = 0
    strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A heat map as a table: the effect as colour and as number."""

    kind: ClassVar[str] = "heat"
    caption: str
    corner: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    ends: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One view of a volcano: columns of its table, and for `only` = (column, value) only the rows with it."""

    label: str
    x: str
    y: str
    only: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volcano:
    """Effect against −log10 p, drawn by the script from the rows of a table.

    Attributes
    ----------
    table
        Id of the table.
    names
        Its columns that name a point.
    chooser
        What is chosen.
    flag
        (column, limit) of the points that stand out, those at the limit or below; an empty column means y at the limit or above.
    flag_label
        What those points are.
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
    """Blocks behind a line that opens."""

    kind: ClassVar[str] = "more"
    title: str
    blocks: "Sequence[Block]"


Block = Prose | Heading | Notice | Facts | Figure | Figures | Table | PlainTable | Heat | Volcano | More


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with a heading."""

    id: str
    title: str
    blocks: Sequence[Block]
    intro: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: what kind of run, its name, the summary, the warnings, and the sections."""

    run: str
    title: str
    summary: Sequence[Block]
    warnings: Sequence[str]
    sections: Sequence[Section]
    footer: str
