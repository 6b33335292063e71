"""Screens that the tests of the randomization test share."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from crt.inputs import CRTInputs, make_inputs, prepare_crt_inputs
from data_prep.screen import GuideMap
from data_prep.synthetic_usage import make_sceptre_style_synth

ORACLES = Path(__file__).resolve().parents[1] / "oracles"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session")
def screen() -> ad.AnnData:
    """A small high-MOI screen with effects; leave it as it is."""
    return make_sceptre_style_synth(
        N=1500, K=5, n_target_genes=8, guides_per_gene=3, moi_mean=3.0, frac_causal_genes=0.25, n_effect_programs=1, effect_size=1.5, seed=1
    )


@pytest.fixture
def screen_copy(screen: ad.AnnData) -> ad.AnnData:
    """A copy of the small screen, to be changed at will."""
    return screen.copy()


@pytest.fixture(scope="session")
def inputs(screen: ad.AnnData) -> CRTInputs:
    """The small screen, prepared."""
    return prepare_crt_inputs(screen)


@pytest.fixture(scope="session")
def screens() -> Path:
    """The folder of real screens: FATESCREEN_SHARED/data, else `shared/data` beside the repository."""
    folder = Path(os.environ.get("FATESCREEN_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
    if not (folder / "papalexi2021_eccite_thp1.h5ad").is_file():
        pytest.skip(f"no real screens at {folder} (set FATESCREEN_SHARED)")
    return folder


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
