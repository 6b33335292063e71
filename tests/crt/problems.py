"""Small problems as arrays."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from crt.cells.stored import cell_blocks
from crt.inputs import CRTInputs, make_inputs
from crt.layout import empty_rows
from crt.propensity import Coefficients, PropensityFit, fit_logistic
from crt.sampling.base import Drawer, Resamples, Unit
from crt.sampling.bernoulli import bernoulli_index_sampler
from crt.sampling.stratified import StratifiedDrawer
from crt.settings import LogisticSettings, UnitSettings
from crt.statistic import Compared, unit_propensities
from data_prep.blocks.place import MEMORY
from data_prep.read.guide_map import GuideMap


def inputs_of(C: np.ndarray, Y: np.ndarray, guides: np.ndarray, genes: Sequence[str], **options: object) -> CRTInputs:
    """Inputs from arrays; guides of genes whose names begin with "ntc" or "non-targeting" are NTC."""
    (n, p), K = C.shape, Y.shape[1]
    rows = empty_rows(n, p, K)
    rows[:, :p], rows[:, p : p + K] = C, Y
    names = np.array([f"guide_{j}" for j in range(len(genes))], dtype=object)
    guide_map = GuideMap(guide=names, gene=np.array(genes, dtype=object), is_ntc=np.array([g.startswith(("ntc", "non-targeting")) for g in genes]))
    return make_inputs(
        rows,
        guides=sp.csc_matrix(guides),
        guide_map=guide_map,
        program_names=[f"p{k}" for k in range(K)],
        covar_names=[f"c{j}" for j in range(p)],
        cells=np.array([f"cell{i}" for i in range(n)], dtype=object),
        **options,
    )


def tiny_inputs(C: np.ndarray, Y: np.ndarray, sets: dict[str, np.ndarray], **options: object) -> CRTInputs:
    """Inputs from arrays, one guide for each treated set."""
    guides = np.zeros((len(C), len(sets)))
    for j, cells in enumerate(sets.values()):
        guides[cells, j] = 1
    return inputs_of(C, Y, guides, list(sets), **options)


def random_problem(n: int, p: int, K: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A design with intercept and outcomes that depend on it."""
    rng = np.random.default_rng(seed)
    C = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    return C, C @ rng.normal(size=(p, K)) + rng.normal(size=(n, K)), rng


def listed(drawer: Drawer, unit: Unit, n_resamples: int, seed: int) -> Resamples:
    """The draws of `drawer.sums` as lists of cells of the screen."""
    if isinstance(drawer, StratifiedDrawer):
        return drawer.resamples(unit, n_resamples, seed)
    indptr, positions = bernoulli_index_sampler(unit.p, n_resamples, seed)
    return Resamples(indptr, unit.cells[positions])


def logistic_fits(Ct: np.ndarray, sets: Sequence[np.ndarray], settings: LogisticSettings | None = None) -> Coefficients:
    """The regressions of treated sets on a design."""
    rows = empty_rows(Ct.shape[1], len(Ct), 1)
    rows[:, : len(Ct)] = Ct.T
    score = np.stack([Ct[:, treated].sum(1, dtype=np.float64) for treated in sets])
    return fit_logistic(cell_blocks(MEMORY, rows, Ct, 1), score, settings=settings)


def propensity_of(Ct: np.ndarray, treated: np.ndarray, **options: object) -> PropensityFit:
    """The propensity of one treated set."""
    inputs = tiny_inputs(Ct.T, np.zeros((Ct.shape[1], 1)), {"A": treated})
    score = Ct[:, treated].sum(1, dtype=np.float64)[None]
    return unit_propensities([treated.astype(np.int32)], score, Compared.of_screen(inputs), UnitSettings(**options))[0][1]
