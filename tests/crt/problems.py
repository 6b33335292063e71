"""Small problems as arrays."""

import numpy as np

from crt.inputs import CRTInputs, make_inputs
from data_prep.read.guide_map import GuideMap


def tiny_inputs(C: np.ndarray, Y: np.ndarray, sets: dict[str, np.ndarray], **options: object) -> CRTInputs:
    """Inputs from arrays, one guide for each treated set."""
    n = len(C)
    guides = np.zeros((n, len(sets)))
    for j, cells in enumerate(sets.values()):
        guides[cells, j] = 1
    names = np.array([f"guide_{name}" for name in sets], dtype=object)
    genes = np.array(list(sets), dtype=object)
    guide_map = GuideMap(guide=names, gene=genes, is_ntc=np.array([g.startswith("ntc") for g in sets]))
    return make_inputs(
        C=C,
        Y=Y,
        guides=guides,
        guide_map=guide_map,
        program_names=[f"p{k}" for k in range(Y.shape[1])],
        covar_names=[f"c{j}" for j in range(C.shape[1])],
        cells=np.array([f"cell{i}" for i in range(n)], dtype=object),
        **options,
    )


def random_problem(n: int, p: int, K: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A design with intercept and outcomes that depend on it."""
    rng = np.random.default_rng(seed)
    C = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    return C, C @ rng.normal(size=(p, K)) + rng.normal(size=(n, K)), rng
