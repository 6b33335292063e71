"""Data of a page as one JSON text: each string is stored once, numbers have five digits, counts all digits."""

import json
from collections.abc import Iterable, Sequence

import pandas as pd

from fatescreen.report.blocks import Block, Figures, More, Table, Volcano
from fatescreen.report.numbers import DIGITS, Kind, packed

ALL_DIGITS = 17


class Strings:
    """Codes of strings, in order of first use."""

    def __init__(self) -> None:
        self.code: dict[str, int] = {}

    def codes(self, values: Iterable[object]) -> str:
        """Codes of these strings, as a JSON list."""
        return "[" + ",".join(str(self.code.setdefault(str(v), len(self.code))) for v in values) + "]"


def page_json(blocks: Iterable[Block], *, rows: int) -> str:
    """JSON of the tables (the first `rows` rows) and volcano plots among flat blocks, safe inside a script element."""
    strings, tables, plots = Strings(), [], []
    for block in blocks:
        if isinstance(block, Table):
            tables.append(f"{json.dumps(block.id)}:{_table(block, strings, rows)}")
        elif isinstance(block, Volcano):
            plots.append(f"{json.dumps(block.id)}:{_volcano(block)}")
    text = f'{{"tables":{{{",".join(tables)}}},"plots":{{{",".join(plots)}}},"strings":{_json(list(strings.code))}}}'
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def flat(blocks: Iterable[Block]) -> Iterable[Block]:
    """All blocks, including those inside other blocks."""
    for block in blocks:
        yield block
        if isinstance(block, More):
            yield from flat(block.blocks)
        elif isinstance(block, Figures):
            yield from block.items


def _table(table: Table, strings: Strings, rows: int) -> str:
    frame = table.frame.iloc[:rows]
    kinds = {c.key: c.kind for c in table.columns}
    data = [f"{json.dumps(str(key))}:{_values(frame[key], kinds.get(str(key)), strings)}" for key in frame.columns]
    head = [{"key": c.key, "label": c.label, "kind": c.kind} for c in table.columns]
    return f'{{"rows":{len(frame)},"page":{table.page},"columns":{_json(head)},"data":{{{",".join(data)}}}}}'


def _values(column: pd.Series, kind: Kind | None, strings: Strings) -> str:
    if kind == "text":
        return strings.codes(column.tolist())
    return packed(column.astype(float).tolist(), ALL_DIGITS if kind == "count" else DIGITS)


def _volcano(plot: Volcano) -> str:
    choices = [{"label": c.label, "x": c.x, "y": c.y, "only": None if c.only is None else list(c.only)} for c in plot.choices]
    own: dict[str, object] = {"table": plot.table, "names": list(plot.names), "choices": choices, "flag": list(plot.flag)}
    return _json(own | {"xLabel": plot.x_label, "yLabel": plot.y_label, "title": plot.title, "flagLabel": plot.flag_label})


def _json(value: Sequence[object] | dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
