import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_prep import InputError, ScreenDesign, ScreenKeys, ScreenWarning, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import FitSettings, fit
from tests.hierarchy.conftest import make


def errors(data, se, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        return fit(data, settings=FitSettings(se=se, **settings)).moments()


@pytest.mark.parametrize("clusters", [None, 300])
def test_where_the_model_is_right_the_errors_are_the_posteriors(clusters):
    data, _ = make(n_cells=6000, n_genes=15, guides_per_gene=3)
    if clusters:
        data = replace(data, cluster=torch.arange(data.n_cells) % clusters)
    own, robust = errors(data, "posterior"), errors(data, "sandwich")
    ratio = robust.theta_sd / own.theta_sd
    assert ratio.median().item() == pytest.approx(1.0, abs=0.03) and ratio.min() > 0.7 and ratio.max() < 1.4
    assert ((robust.theta_mean - own.theta_mean) / own.theta_sd).abs().max() < 0.1  # errors change, means do not


def clones(n_founders=1500, copies=5, seed=0):
    """Cells that share a founder's guides and most of its fate noise."""
    screen = simulate_fate_screen(ScreenDesign(n_cells=n_founders, n_genes=25, guides_per_gene=3, effects="model", n_days=2), seed=seed)
    ids = np.repeat(np.arange(n_founders), copies)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names repeat until made unique
        adata = screen.adata[ids].copy()
    adata.obs_names_make_unique()
    draw = np.random.default_rng(seed).standard_gamma(np.maximum(screen.adata.obsm["lineages_fwd"].to_numpy()[ids], 1e-6) * 50)
    adata.obsm["lineages_fwd"].iloc[:, :] = draw / draw.sum(1, keepdims=True)
    adata.obs["clone"] = ids.astype(str)
    return build_fate_data(read_screen(adata, keys=ScreenKeys(cluster="clone")), ref_fate="EC"), screen.theta


def test_cells_that_share_noise_need_the_sandwich():
    data, theta = clones()
    coverage = {}
    for se in ("posterior", "sandwich"):
        m = errors(data, se)
        coverage[se] = float((((m.theta_mean.numpy() - theta) / m.theta_sd.numpy()).__abs__() < 1.6449).mean())
    assert coverage["posterior"] < 0.75 < 0.82 < coverage["sandwich"]  # nominal 0.9; 100 effects, one SD 0.03


def test_by_cell_is_the_sum_over_one_cell_clusters():
    data, _ = make(n_cells=400, n_genes=4)
    alone = errors(data, "sandwich", likelihood_weight=20.0)
    named = errors(replace(data, cluster=torch.arange(400)), "sandwich", likelihood_weight=20.0)
    torch.testing.assert_close(named.theta_sd, alone.theta_sd, rtol=2e-3, atol=0)  # C/(C − 1)


def test_too_few_clusters_are_reported(small):
    with pytest.raises(InputError, match="all cells are in one cluster"):
        fit(replace(small, cluster=torch.zeros(small.n_cells, dtype=torch.long)), settings=FitSettings(se="sandwich"))
    with pytest.warns(ScreenWarning, match="based on only 4 clusters.*35 %"):
        fit(replace(small, cluster=torch.arange(small.n_cells) % 4), settings=FitSettings(se="sandwich"))
    with pytest.raises(InputError, match="requires posterior 'gene_block'"):
        FitSettings(se="sandwich", posterior="mean_field")
