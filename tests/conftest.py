"""Fixtures that several test modules share."""

import os
import pkgutil
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):  # before torch and numba are imported: workers of pytest share the cores
    os.environ.setdefault(name, "1")

from jaxtyping import install_import_hook

from tests import ROOT, skip
from tests.shapes import shapes_checked


def checked_modules() -> list[str]:
    """The packages whose annotated types and shapes are checked at every call: all but the compiled kernels, which numba must see as they are."""
    rooms = [f"crt.{found.name}" for found in pkgutil.iter_modules([str(ROOT / "crt")]) if found.name != "kernels"]
    return ["data_prep", "hierarchy", *rooms]


install_import_hook(checked_modules(), f"{shapes_checked.__module__}.{shapes_checked.__name__}")

import anndata as ad
import jaxtyping
import pytest

from crt.inputs import CRTInputs
from crt.prepare import prepare_crt_inputs
from data_prep.simulate.design import ScreenDesign
from data_prep.simulate.fates import SimulatedScreen, simulate_fate_screen
from data_prep.simulate.usage import make_sceptre_style_synth

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
def shared() -> Path:
    """The folder of shared test data: FATESCREEN_SHARED, else `shared` beside the repository."""
    folder = Path(os.environ.get("FATESCREEN_SHARED") or ROOT.parent / "shared")
    if not (folder / "data" / "papalexi2021_eccite_thp1.h5ad").is_file():
        skip(f"no shared test data at {folder / 'data'} (set FATESCREEN_SHARED)")
    return folder


@pytest.fixture(scope="session")
def screens(shared: Path) -> Path:
    """The folder of the real screens."""
    return shared / "data"


@pytest.fixture
def shapes_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of wrong shapes reach the functions, whose own messages about them are tested."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
