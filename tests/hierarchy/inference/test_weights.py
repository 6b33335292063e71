"""Likelihood weights by day and replicate."""

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from data_prep import ScreenDesign, ScreenWarning, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import FitSettings, fit
from hierarchy.inference.weights import Dispersion, common_weight, group_weights, mean_weight
from tests.hierarchy.conftest import make


def noisy(precision, seed, **design):
    """A screen with this Dirichlet precision on each day, and its true effects; 5,000 cells, 40 genes, a day for each precision."""
    small = {"n_cells": 5000, "n_genes": 40, "n_days": len(precision), "concentration": 1e6}
    screen = simulate_fate_screen(ScreenDesign(**(small | design)), seed=seed)
    own = np.asarray(precision)[screen.adata.obs["day"].cat.codes]
    draw = np.random.default_rng(seed).standard_gamma(screen.adata.obsm["lineages_fwd"].to_numpy() * own[:, None])
    screen.adata.obsm["lineages_fwd"].iloc[:, :] = draw / draw.sum(1, keepdims=True)
    return build_fate_data(read_screen(screen.adata), ref_fate="EC"), screen.theta


def standard_errors(fitted):
    found = fitted.estimates()
    return found.theta_covariance.diagonal(dim1=1, dim2=2).reshape(found.theta.shape).sqrt().numpy()


def test_null_calls_hold_on_days_of_any_precision():
    """432 nulls a day in six screens: one SD of the share of |z| > 1.96 is 1.05 %, and the bounds are 3.5 SDs from 5 %. A common weight is far outside them."""
    calls = {"auto": [], "common": []}
    for seed in range(6):
        data, theta = noisy((100.0, 20.0, 4.0), seed)
        for weight, found in calls.items():
            fitted = fit(data, settings=FitSettings(likelihood_weight=weight))
            z = fitted.estimates().theta.numpy() / standard_errors(fitted)
            found.append([np.abs(z[..., d][theta[..., d] == 0]) > 1.96 for d in range(3)])
            if weight == "auto":
                np.testing.assert_allclose(fitted.weight_table.mean(1), [101, 21, 5], rtol=0.1)
    share = {weight: [np.concatenate(own).mean() for own in zip(*found, strict=True)] for weight, found in calls.items()}
    assert all(abs(own - 0.05) < 3.5 * 0.0105 for own in share["auto"])
    assert share["common"][0] < 0.005 and share["common"][2] > 0.12


@pytest.mark.parametrize("design", [{"n_cells": 8000}, {"n_cells": 2000, "n_genes": 15, "day_weights": (1, 1, 0.05)}], ids=["even", "few cells on a day"])
def test_with_one_precision_the_errors_are_those_of_a_common_weight(design):
    for seed in range(3):
        data, _ = noisy((50.0, 50.0, 50.0), seed, **design)
        own, common = (standard_errors(fit(data, settings=FitSettings(likelihood_weight=weight))) for weight in ("auto", "common"))
        np.testing.assert_allclose(own, common, rtol=0.01)


def test_a_fate_that_no_cell_has_does_not_change_the_weight():
    adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=10, n_days=2, concentration=None), seed=0).adata
    adata.obsm["lineages_fwd"]["NONE"] = 0.0
    with pytest.warns(ScreenWarning, match="no cell has the fate NONE: effects on it are those of the priors"):
        fitted = fit(build_fate_data(read_screen(adata), ref_fate="EC"))
    assert fitted.converged and fitted.weight == pytest.approx(1.0, abs=0.03)


def test_a_gene_whose_cells_all_have_one_fate_has_finite_estimates():
    adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=10, n_days=2, concentration=None, guides_per_gene=2, moi=1.0), seed=0).adata
    adata.obsm["lineages_fwd"].loc[adata.obsm["guide"][:, :2].toarray().any(1), :] = [0.0, 1.0, 0.0]
    fitted = fit(build_fate_data(read_screen(adata), ref_fate="EC"))
    theta, se = fitted.estimates().theta[0, 0].numpy(), standard_errors(fitted)[0, 0]
    assert fitted.converged and (theta > 2).all() and np.isfinite(se).all() and (se > 0.5).all()


def table(values):
    return torch.tensor(values, dtype=torch.float64)


def test_shrinkage_is_that_of_paule_and_mandel():
    cells, mean = table([[1000, 800], [50, 3]]), table([[0.2, 0.1], [0.15, 0.9]])
    square = 1.8 * mean**2 * cells  # a squared coefficient of variation of 0.8 in each group
    found = Dispersion(pearson=mean * cells, square=square, cells=cells)
    common = common_weight(found, 2)
    assert common[0, 0].item() == pytest.approx(cells.sum() * 2 / (mean * cells).sum())
    apart, variance = np.log(mean.numpy() / 2 * common.numpy()), 0.8 / cells.numpy()
    between = brentq(lambda t: (apart**2 / (t + variance)).sum() - 3, 0, 10)
    want = common.numpy() * np.exp(-apart * between / (between + variance))
    np.testing.assert_allclose(group_weights(found, 2), want, rtol=1e-6)
    assert mean_weight(common, cells).item() == pytest.approx(common[0, 0].item())


def test_groups_without_cells_have_the_common_weight():
    cells = table([[1000, 0], [900, 1100]])
    found = Dispersion(pearson=table([[200, 0], [50, 800]]), square=table([[60, 0], [6, 900]]), cells=cells)
    own, common = group_weights(found, 1), common_weight(found, 1)
    assert own[0, 1] == common[0, 1] and own.isfinite().all() and own[1, 0] > common[1, 0] > own[1, 1]
    one = Dispersion(pearson=table([[200]]), square=table([[60]]), cells=table([[1000]]))
    assert group_weights(one, 1).item() == 5.0


def test_the_weight_is_at_least_that_of_one_hot_fates():
    """60 one-hot cells and 72 coordinates: without the bound the posterior is so wide that the weight falls to 0.001."""
    data, _ = make(n_cells=60, concentration=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        assert (fit(data, settings=FitSettings(max_steps=15)).weight_table >= 1).all()
        assert (fit(data, settings=FitSettings(likelihood_weight=0.5, max_steps=2)).weight_table == 0.5).all()
    cells = torch.full((1, 2), 100.0, dtype=torch.float64)
    noisy = Dispersion(pearson=cells * torch.tensor([[3.0, 0.1]]), square=cells * torch.tensor([[15.0, 0.02]]), cells=cells)
    assert group_weights(noisy, 2)[0, 0] == 1 and group_weights(noisy, 2)[0, 1] > 5 and (common_weight(noisy, 2) > 1).all()
