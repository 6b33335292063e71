"""Screens that are written block by block."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from crt import make_sceptre_style_synth
from data_prep.blocks import base
from data_prep.simulate import fates, stored, usage
from data_prep.simulate.design import ScreenDesign
from data_prep.simulate.fates import simulate_fate_screen, write_fate_screen
from data_prep.simulate.usage import UsageDesign, write_usage_screen

DESIGN = ScreenDesign(n_cells=250, n_genes=4, guides_per_gene=2, n_ntc_guides=2, n_days=12, moi=2.0)
USAGE = {"N": 250, "K": 4, "n_target_genes": 6, "guides_per_gene": 2, "confound_strength": 1.0}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 100 cells."""

    def slices(n):
        return base.block_slices(n, 100)

    for module in (stored, fates, usage):
        monkeypatch.setattr(module, "block_slices", slices)


def same(first: ad.AnnData, second: ad.AnnData) -> None:
    pd.testing.assert_frame_equal(first.obs, second.obs)
    assert set(first.obsm) == set(second.obsm)
    for key, value in first.obsm.items():
        other = second.obsm[key]
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other)
        else:
            assert value.dtype == other.dtype
            assert np.array_equal(value.toarray() if hasattr(value, "toarray") else value, other.toarray() if hasattr(other, "toarray") else other)
    assert set(first.uns) == set(second.uns)


@pytest.mark.parametrize("n", [1, 250])
def test_the_file_holds_the_screen_in_memory(small_blocks, tmp_path, n):
    """With fates and with usage, in one block and in several, the last of them without some of the days."""
    design = ScreenDesign(n_cells=n, n_genes=4, guides_per_gene=2, n_ntc_guides=2, n_days=12, moi=2.0)
    guide_map, truth = write_fate_screen(tmp_path / "a.h5ad", design, seed=2)
    simulated = simulate_fate_screen(design, seed=2)
    same(simulated.adata, ad.read_h5ad(tmp_path / "a.h5ad"))
    pd.testing.assert_frame_equal(guide_map, simulated.guide_map)
    pd.testing.assert_frame_equal(truth, simulated.truth)
    write_usage_screen(tmp_path / "b.h5ad", UsageDesign(**USAGE | {"N": n}), seed=2)
    same(make_sceptre_style_synth(**USAGE | {"N": n}, seed=2), ad.read_h5ad(tmp_path / "b.h5ad"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5ad", "b.h5ad"]


def test_a_block_depends_on_the_seed_and_its_number(small_blocks):
    """Full blocks stay when cells are added after them, and differ from each other."""
    guides = simulate_fate_screen(DESIGN, seed=1).adata.obsm["guide"]
    more = simulate_fate_screen(ScreenDesign(n_cells=390, n_genes=4, guides_per_gene=2, n_ntc_guides=2, n_days=12, moi=2.0), seed=1).adata.obsm["guide"]
    assert (guides[:200] != more[:200]).nnz == 0 and (guides[:100] != guides[100:200]).nnz > 0
    few, many = (make_sceptre_style_synth(**USAGE | {"N": n, "confound_strength": 0.0}, seed=1).obsm for n in (250, 390))
    assert np.array_equal(few["cnmf_usage"][:200], many["cnmf_usage"][:200]) and not np.array_equal(few["cnmf_usage"][:100], few["cnmf_usage"][100:200])


def test_a_failure_leaves_nothing(small_blocks, tmp_path, monkeypatch):
    """Such as an interrupt in the second block."""
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return drawn(*arguments)

    drawn = fates._fates
    monkeypatch.setattr(fates, "_fates", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_fate_screen(tmp_path / "a.h5ad", DESIGN)
    assert len(calls) == 2 and not list(tmp_path.iterdir())


def test_the_burden_is_relative_to_the_whole_screen(small_blocks):
    """With a steep slope, fates follow the burden relative to the mean of all blocks."""
    design = ScreenDesign(
        n_cells=400, n_genes=2, n_days=1, n_reps=1, moi=5.0, concentration=1e6, effects="model", frac_null=1.0, burden_slope=-0.5, sigma_guide=0.0
    )
    adata = simulate_fate_screen(design, seed=0).adata
    logit = np.log(adata.obsm["lineages_fwd"]["MES"] / adata.obsm["lineages_fwd"]["EC"])
    k = np.diff(adata.obsm["guide"].indptr)
    assert np.abs(logit + 0.5 * k - (logit + 0.5 * k).mean()).max() < 0.05
