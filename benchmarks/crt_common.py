"""Shared by the benchmarks of the randomization test: one thread, the repository on the path, inputs from `screen.make_screen`."""

import os
import sys
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np

from crt.inputs import CRTInputs, make_inputs
from crt.layout import empty_rows
from data_prep import GuideMap


def rows_of(C, Y) -> np.ndarray:
    """Design and outcomes as rows of the inputs."""
    rows = empty_rows(*C.shape, Y.shape[1])
    rows[:, : C.shape[1]], rows[:, C.shape[1] :][:, : Y.shape[1]] = C, Y
    return rows


def inputs_of(screen, C, Y) -> CRTInputs:
    """Inputs of the test from a screen of `screen.make_screen`, its design and its outcomes."""
    gene = np.array([f"G{g:05d}" if g >= 0 else "non-targeting" for g in screen.guide_to_gene], dtype=object)
    names = np.array([f"guide{i}" for i in range(gene.size)], dtype=object)
    return make_inputs(
        rows_of(C, Y),
        guides=screen.guides,
        guide_map=GuideMap(guide=names, gene=gene, is_ntc=screen.guide_to_gene < 0),
        program_names=[f"program_{k}" for k in range(Y.shape[1])],
        covar_names=[f"covariate_{j}" for j in range(C.shape[1])],
        cells=np.arange(len(C)).astype(str).astype(object),
    )


def table(title: str, header: list[str], rows: list[list[object]]) -> None:
    """Print a markdown table."""
    print(f"\n{title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row) + " |", flush=True)
