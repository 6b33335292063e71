"""Cells of a table of its own, matched by name to the cells of the screen."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep.errors import InputError, first_few

_SUFFIX = re.compile(r"-\d+$")  # Cell Ranger's number of the library, "AAACCTGAGAAACGAG-1"
_LOOKED_AT = 1000


def row_of_cell(cells: np.ndarray) -> dict[str, int]:
    """Cell → row in the screen; a name that stands twice is an error."""
    rows = {str(cell): i for i, cell in enumerate(cells)}
    if len(rows) < len(cells):
        seen: set[str] = set()
        repeated = [name for name in map(str, cells) if name in seen or seen.add(name)]  # type: ignore[func-returns-value]  # add returns None
        raise InputError(f"obs_names repeat, so a table can't be matched to them: {first_few(dict.fromkeys(repeated))}. Call .obs_names_make_unique().")
    return rows


def none_matches(where: str, theirs: Sequence[str], cells: np.ndarray) -> InputError:
    """The error for a table that names no cell of the screen, with examples of both and, where the ending is all that differs, the mend."""
    return InputError(f"{where} names no cell of the screen ({styles(theirs, cells)}). {mend(theirs, cells)}")


def styles(theirs: Iterable[str], cells: np.ndarray) -> str:
    """How the table and the screen name their cells, by example."""
    return f"the table has {first_few(theirs, 3)}; the screen has {first_few(cells, 3)}"


def mend(theirs: Sequence[str], cells: np.ndarray) -> str:
    """What would bring the names together."""
    some = [_SUFFIX.sub("", name) for name in theirs[:_LOOKED_AT]]
    bare = {_SUFFIX.sub("", str(cell)) for cell in cells}
    if not some or sum(name in bare for name in some) < len(some) / 2:
        return "Use the same names in both."
    more = "" if len(bare) == len(cells) else ", where it tells cells of several libraries apart"
    return rf"They agree up to the ending '-1': use it in both or in neither (adata.obs_names.str.replace(r'-\d+$', '', regex=True)){more}."
