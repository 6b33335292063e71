"""Fixtures that several test modules share."""

import os
from pathlib import Path

import anndata as ad
import pytest

from data_prep.synthetic import ScreenDesign, SimulatedScreen, simulate_fate_screen

SMALL = ScreenDesign(n_cells=300, n_genes=6, guides_per_gene=(1, 4), n_ntc_guides=4, n_days=3, n_reps=2, moi=3.0)


@pytest.fixture(scope="session")
def simulated() -> SimulatedScreen:
    """One small simulated screen; leave it as it is."""
    return simulate_fate_screen(SMALL, seed=1)


@pytest.fixture
def screen_adata(simulated: SimulatedScreen) -> ad.AnnData:
    """A copy of the small screen, to be changed at will."""
    return simulated.adata.copy()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data: FATESCREEN_SHARED, else `shared` beside the repository."""
    folder = Path(os.environ.get("FATESCREEN_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared test data at {folder / 'data'} (set FATESCREEN_SHARED)")
    return folder
