"""What a person uses: the analyses in one call each, commands, options, run folders, reports and plots.

The methods are in `data_prep`, `hierarchy` and `crt`, which know nothing of this package.

A tour::

    fitted = fatescreen.fit_screen("SCREEN.h5ad", ref_fate="EC")  # options of the commands, under the same names
    hits = fatescreen.call_hits(fitted, contrast_fate="MES")
    result = fatescreen.test_programs("SCREEN.h5ad", control_group="ntc_cells")
    fatescreen.plot.volcano(result, "program_3")
"""

import importlib
from typing import Any

from data_prep.exports import exports

_get, __dir__, __all__ = exports(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A public name, or the module `plot`, imported when it is first used."""
    return importlib.import_module("fatescreen.plot") if name == "plot" else _get(name)
