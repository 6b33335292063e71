import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm, t

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


def test_few_clusters_cover_what_they_should():
    """Of 180 effects on each of two screens without shared noise, |z| > 1.96 in 5 % ± 2 % (three SDs; effects share clusters); 12 % without the correction."""
    found = []
    for seed in (0, 1):
        screen = simulate_fate_screen(ScreenDesign(n_cells=3000, n_genes=30, guides_per_gene=3, n_days=3), seed=seed)
        data = build_fate_data(read_screen(screen.adata), ref_fate="EC")
        cluster = torch.from_numpy(np.random.default_rng(seed).integers(0, 6, data.n_cells))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScreenWarning)
            estimates = fit(replace(data, cluster=cluster), settings=FitSettings(se="sandwich")).estimates()
        se = estimates.theta_covariance.diagonal(dim1=1, dim2=2).reshape(estimates.theta.shape).sqrt()
        found.append((estimates.theta - torch.from_numpy(screen.theta)) / se)
    assert 0.03 < (torch.stack(found).abs() > 1.96).double().mean() < 0.07


@pytest.mark.parametrize("times", [30.0, 1e6])
def test_scores_that_vary_more_than_the_prior_allows(monkeypatch, times):
    """Of one gene: its posterior is no wider than the prior, and every matrix stays positive definite."""
    data, _ = make(n_cells=3000, n_genes=15, guides_per_gene=3)
    own = fit(data)

    def larger(problem, found, info):
        return [torch.cat([times * h[:1], h[1:]]) for h in info]

    monkeypatch.setattr("hierarchy.inference.gene_block.score_variances", larger)
    fitted = fit(data, settings=FitSettings(se="sandwich"))
    sd, points = fitted.moments().theta_sd, fitted.scale_points()
    wider = (sd / own.moments().theta_sd).mean((1, 2))
    assert fitted.converged and wider[0] > 2 > 1.5 > wider[1:].max()
    prior = (points.weights[:, None, None] * points.scales[..., : data.n_days].square()).sum(0).cumsum(-1).sqrt()
    assert (sd < 1.1 * prior).all()


def test_by_cell_is_the_sum_over_one_cell_clusters():
    data, _ = make(n_cells=400, n_genes=4)
    alone = errors(data, "sandwich", likelihood_weight=20.0)
    named = errors(replace(data, cluster=torch.arange(400)), "sandwich", likelihood_weight=20.0)
    wider = named.theta_sd / alone.theta_sd - 1
    factor = np.sqrt(400 / 399) * t.isf(0.025, 399) / norm.isf(0.025) - 1  # of the likelihood's errors for 400 clusters; the prior damps it
    assert (wider > 0).all() and (wider < 1.05 * factor).all(), (wider, factor)


def test_too_few_clusters_are_reported(small):
    with pytest.raises(InputError, match="all cells are in one cluster"):
        fit(replace(small, cluster=torch.zeros(small.n_cells, dtype=torch.long)), settings=FitSettings(se="sandwich"))
    for count, covered in ((2, 65), (3, 76), (4, 80)):
        with pytest.raises(InputError, match=f"there are {count} clusters, but .* at least 5: 90 % intervals would cover {covered} %. Choose smaller clusters"):
            fit(replace(small, cluster=torch.arange(small.n_cells) % count), settings=FitSettings(se="sandwich"))
    with pytest.warns(ScreenWarning, match="based on only 5 clusters.*32 %; they are 42 % wider for it"):
        fit(replace(small, cluster=torch.arange(small.n_cells) % 5), settings=FitSettings(se="sandwich"))
    with pytest.raises(InputError, match="requires posterior 'gene_block'"):
        FitSettings(se="sandwich", posterior="mean_field")
