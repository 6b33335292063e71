"""Errors and warnings about inputs: what is wrong, in which rows, and how to fix it."""

import difflib
import warnings
from collections.abc import Iterable
from types import TracebackType

import numpy as np
from jaxtyping import Bool, Shaped


class InputError(ValueError):
    """An input or a setting that cannot be used.

    The message names it and suggests a fix. Public functions raise it before long computations; the commands show it as one message and exit with code 2.

    Attributes
    ----------
    arguments
        Names of the arguments that fix it, such as ("covar_key", "covariates"); the commands show the options that set them.

    Examples
    --------
    >>> from data_prep import InputError, ScreenDesign
    >>> try:
    ...     ScreenDesign(n_cells=0)
    ... except InputError as error:
    ...     print(error)
    n_cells is 0; it must be a whole number, at least 1.
    """

    def __init__(self, message: str, *arguments: str):
        """Make an error from a message and the names of the arguments that fix it."""
        super().__init__(message)
        self.arguments = arguments


class ScreenWarning(UserWarning):
    """A property of a screen or of a result that the user should know and that does not stop the run.

    The commands show each as one line on standard error; in Python they are ordinary warnings.

    Attributes
    ----------
    arguments
        Names of the arguments that avoid it, as in `InputError`.

    Examples
    --------
    >>> import warnings
    >>> from data_prep import ScreenDesign, ScreenWarning, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=300, n_genes=4), seed=1).adata
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", ScreenWarning)
    ...     screen = read_screen(adata, max_guides_per_cell=8)
    >>> print(caught[0].message)
    20 of 300 cells carry more than 8 guides and were dropped.
    """

    def __init__(self, message: str, *arguments: str):
        """Make a warning from a message and the names of the arguments that avoid it."""
        super().__init__(message)
        self.arguments = arguments


def warn(message: str, *arguments: str) -> None:
    """Issue a `ScreenWarning` at the position of the caller's caller."""
    warnings.warn(ScreenWarning(message, *arguments), stacklevel=3)


class Problems:
    """Checks that are all made, so that one message names everything that is wrong.

    >>> problems = Problems()
    >>> for share in (0.5, 7, -1):
    ...     with problems:
    ...         if not 0 <= share <= 1:
    ...             raise InputError(f"{share} is no share.")
    >>> str(problems.error)
    '7 is no share.\\n-1 is no share.'
    """

    def __init__(self) -> None:
        self._found: list[InputError] = []

    def __enter__(self) -> None:
        """One check begins."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """An `InputError` is kept; other errors are raised."""
        if isinstance(error, InputError):
            self._found.append(error)
        return isinstance(error, InputError)

    @property
    def error(self) -> InputError | None:
        """One error for all that were kept; None without any."""
        if len(self._found) < 2:
            return next(iter(self._found), None)
        return InputError("\n".join(dict.fromkeys(map(str, self._found))), *(name for error in self._found for name in error.arguments))

    def report(self) -> None:
        """Raise that error, if there is one."""
        if self.error is not None:
            raise self.error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion of a similar name, preferably one that differs in case only; "" if there is none.

    >>> did_you_mean("stat1", ["STAT1", "STAT2"])
    " Did you mean 'STAT1'?"
    """
    names = list(known)
    near = [other for other in names if other.lower() == name.lower()] or difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def first_few(items: Iterable[object], n: int = 5) -> str:
    """The first `n` items as text, and the number of the others.

    >>> first_few(["a", "b", "c"], n=2)
    'a, b and 1 more'
    """
    listed = items if isinstance(items, np.ndarray) else list(items)  # of ten million names, only these become Python strings
    text = ", ".join(str(item) for item in listed[:n])
    return text if len(listed) <= n else f"{text} and {len(listed) - n} more"


def first_rows(bad: Bool[np.ndarray, " cells"], names: Shaped[np.ndarray, " cells"], values: Shaped[np.ndarray, "cells ..."] | None = None, n: int = 5) -> str:
    """The first cells where `bad` is true, as text.

    Parameters
    ----------
    bad
        Which cells to report, (cells,).
    names
        Names of the cells, (cells,).
    values
        Values to show, (cells,) or (cells, columns).
    n
        Maximum number of cells in the text.

    >>> first_rows(np.array([False, True]), np.array(["AAA-1", "CCC-1"]), np.array([0.5, -1.0]))
    'row 1 (CCC-1): -1.'
    """
    rows = np.flatnonzero(bad)
    shown = [f"row {i} ({names[i]})" + ("" if values is None else f": {np.array2string(np.asarray(values[i]), precision=5)}") for i in rows[:n]]
    more = "" if rows.size <= n else f"; {rows.size - n:,} more"
    return "; ".join(shown) + more


def missing_key(slot: str, key: str, present: Iterable[object], suggestion: str, *arguments: str) -> InputError:
    """The error for a missing key of a screen.

    Parameters
    ----------
    slot
        Part of the screen, such as "obsm".
    key
        The missing key.
    present
        The keys that the slot has.
    suggestion
        How to fix it.
    *arguments
        Names of the arguments that fix it.
    """
    there = first_few(sorted(str(k) for k in present), n=20) or "none"
    return InputError(f"{slot}[{key!r}] is missing; {slot} has: {there}. {suggestion}", *arguments)


def whole_number(name: str, value: object, *, least: int = 1) -> int:
    """`value` as a Python int, or an `InputError` that names it.

    >>> whole_number("n_bins", 20)
    20
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number, at least {least}.", name)
    return int(value)


def positive(name: str, value: object) -> float:
    """`value` as a Python float, positive and finite, or an `InputError` that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value < np.inf:
        raise InputError(f"{name} is {value!r}; it must be a positive, finite number.", name)
    return float(value)
