import warnings

import pytest

from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import FitSettings, fit


def make(seed=0, **design):
    """A simulated screen's tensors and the screen; sizes are small unless given."""
    small = {"n_cells": 600, "n_genes": 6, "guides_per_gene": (1, 4), "n_ntc_guides": 5, "n_days": 3, "effects": "model", "moi": 3.0}
    screen = simulate_fate_screen(ScreenDesign(**(small | design)), seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_screen(screen.adata)
    return build_fate_data(read, ref_fate=read.fate_names[0]), screen


@pytest.fixture(scope="session")
def small():
    return make()[0]


@pytest.fixture(scope="session")
def small_fit(small):
    return fit(small, settings=FitSettings(seed=1))
