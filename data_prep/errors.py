"""What is said when an input is wrong: the key, the first offending rows, and the mend."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np


class InputError(ValueError):
    """An input or a setting that cannot be used; the message names it and suggests a fix.

    It is a `ValueError`; every public function raises it before any long work, and the commands show it as one message with exit code 2.

    Attributes
    ----------
    arguments
        Names of the arguments that fix it, such as ("covar_key", "covariates"). Messages name arguments; the commands add the options of those names.

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
        """A message, and the arguments that fix it."""
        super().__init__(message)
        self.arguments = arguments


class ScreenWarning(UserWarning):
    """A property of a screen or of a result that does not stop the run but that its owner should know.

    The commands show each as one line on standard error; in Python they are ordinary warnings, to be shown, collected or made errors.

    Attributes
    ----------
    arguments
        Names of the arguments that change it, as in `InputError`.

    Examples
    --------
    >>> import warnings
    >>> from data_prep import ScreenDesign, ScreenWarning, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=300, n_genes=4), seed=1).adata
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always", ScreenWarning)
    ...     screen = read_screen(adata, max_guides_per_cell=8)
    >>> print(said[0].message)
    20 of 300 cells carry more than 8 guides and were dropped.
    """

    def __init__(self, message: str, *arguments: str):
        """A message, and the arguments that change it."""
        super().__init__(message)
        self.arguments = arguments


def warn(message: str, *arguments: str) -> None:
    """Issue a `ScreenWarning` that points at the caller's caller; `arguments` are those that change it."""
    warnings.warn(ScreenWarning(message, *arguments), stacklevel=3)


def first_few(items: Iterable[object], n: int = 5) -> str:
    """The first `n` items as text, and how many more there are.

    >>> first_few(["a", "b", "c"], n=2)
    'a, b and 1 more'
    """
    listed = list(items)
    text = ", ".join(str(item) for item in listed[:n])
    return text if len(listed) <= n else f"{text} and {len(listed) - n} more"


def first_rows(bad: np.ndarray, names: Sequence[str] | np.ndarray, values: np.ndarray | None = None, n: int = 5) -> str:
    """The cells where `bad` is true, by row number and name, with their values."""
    rows = np.flatnonzero(bad)
    shown = [f"row {i} ({names[i]})" + ("" if values is None else f": {np.array2string(np.asarray(values[i]), precision=5)}") for i in rows[:n]]
    more = "" if rows.size <= n else f"; {rows.size - n:,} more"
    return "; ".join(shown) + more


def missing_key(where: str, key: str, present: Iterable[object], mend: str) -> InputError:
    """The error for a key that is not there, with the keys that are."""
    there = first_few(sorted(str(k) for k in present), n=20) or "none"
    return InputError(f"{where}[{key!r}] is missing; {where} has: {there}. {mend}")


def whole_number(name: str, value: object, *, least: int = 1) -> int:
    """`value` as a Python int, or an `InputError` that names it.

    >>> whole_number("n_bins", 20)
    20
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number, at least {least}.")
    return int(value)


def positive(name: str, value: object) -> float:
    """`value` as a Python float, positive and finite, or an `InputError` that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value < np.inf:
        raise InputError(f"{name} is {value!r}; it must be a positive, finite number.")
    return float(value)
