"""Power check: are effects that are known to exist among the discoveries?"""

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from crt.hits.guides import FDR
from crt.results import CRTResult, strongest_first
from data_prep.errors import InputError, first_few

NAMES = {"target": ("target", "grna_target", "gene"), "program": ("program", "response_id")}  # SCEPTRE's names are understood as well
COLUMNS = ["target", "program", "beta", "se", "p", "p_adj", "rank", "found", "n_treated", "reason"]


def power_check(result: CRTResult, controls: pd.DataFrame, *, fdr: float = FDR) -> pd.DataFrame:
    """The tests of positive controls, with their ranks among all tests of the run.

    Parameters
    ----------
    result
        Result of `run_all_genes_union_crt`.
    controls
        Positive controls, one row each: target and program; where there is no program, or it is missing, the test of the target with the smallest p-value.
        SCEPTRE's names of columns, grna_target and response_id, are understood as well.
    fdr
        False discovery rate at which a control is found.

    Returns
    -------
    pandas.DataFrame
        One row per control, smallest p-value first: target, program, beta, se, p, p_adj, rank (1 for the smallest p-value of all tests; NaN if undefined),
        found, n_treated, reason.

    Raises
    ------
    InputError
        Where there is no column of targets, or a target or a program was not tested.

    Examples
    --------
    >>> import pandas as pd
    >>> from crt import make_sceptre_style_synth, power_check, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> result = run_all_genes_union_crt(inputs, method="saddlepoint")
    >>> controls = pd.DataFrame({"target": ["GENE4", "GENE4"], "program": ["program_2", "program_3"]})
    >>> power_check(result, controls)[["target", "program", "rank", "found"]]
      target    program  rank  found
    0  GENE4  program_3   1.0   True
    1  GENE4  program_2   2.0   True
    """
    known = checked_controls(controls, list(result.pvals_df.index), list(result.pvals_df.columns))
    ranked = strongest_first(result.table)
    ranked = ranked.assign(rank=np.where(ranked["p"].notna(), np.arange(1.0, len(ranked) + 1), np.nan), found=ranked["p_adj"] < fdr)[COLUMNS]
    rows = []
    for target, program in known.itertuples(index=False):
        rows.append(ranked[(ranked["target"] == target) & ((ranked["program"] == program) | (program is None))].iloc[0])
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("rank", kind="stable").reset_index(drop=True).infer_objects()


def checked_controls(controls: pd.DataFrame, targets: Sequence[str], programs: Sequence[str]) -> pd.DataFrame:
    """The columns target and program of a table of positive controls, each name among those given; program is None where the table has none.

    Parameters
    ----------
    controls
        Table as in `power_check`.
    targets
        Tested targets.
    programs
        Tested programs.

    Raises
    ------
    InputError
        Where there is no column of targets, or a target or a program is not among those given.
    """
    found = {meaning: name for meaning, known in NAMES.items() for name in reversed(known) if name in controls.columns}
    if "target" not in found or controls.empty:
        problem = "have no rows" if "target" in found else f"have no column of targets; their columns are {first_few(controls.columns)}"
        raise InputError(f"the positive controls {problem}. Give the columns target and program, a row for each control.", "positive_controls")
    table = pd.DataFrame({"target": controls[found["target"]].astype(str), "program": controls[found["program"]] if "program" in found else None}, dtype=object)
    table["program"] = [None if pd.isna(name) else str(name) for name in table["program"]]
    _known("target", list(table["target"]), targets)
    _known("program", [name for name in table["program"] if name is not None], programs)
    return table


def _known(what: str, names: Sequence[str], tested: Sequence[str]) -> None:
    """Raise where a target or a program is not tested."""
    unknown = list(dict.fromkeys(name for name in names if name not in set(tested)))
    if unknown:
        near = difflib.get_close_matches(unknown[0], tested, n=3)
        hint = f"Similar to {unknown[0]!r}: {', '.join(near)}." if near else f"The run tests {first_few(tested)}."
        raise InputError(f"positive controls: the {what} of these is not tested: {first_few(unknown)}. {hint}", "positive_controls")
