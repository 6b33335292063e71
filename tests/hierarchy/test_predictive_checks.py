import dataclasses
import warnings

import numpy as np
import pytest
import torch

from data_prep import ScreenWarning
from fatescreen.runs.fit_files import write_checks
from hierarchy import FitSettings, fit
from hierarchy.predictive_checks import check_fit
from tests.hierarchy.conftest import make


@pytest.fixture(scope="module")
def checks(small_fit):
    return check_fit(small_fit)


def test_composition_is_observed_and_predicted(checks, small_fit):
    data, table = small_fit.model.data, checks.composition
    assert len(table) == data.n_days * data.n_reps * len(data.fates)
    row = table[(table["day"] == "d1") & (table["rep"] == "rep2") & (table["fate"] == "MES")].iloc[0]
    here = (data.day == 1) & (data.rep == 1)
    assert row["cells"] == int(here.sum()) and row["observed"] == pytest.approx(float(data.fate_prob[here, 1].double().mean()), rel=1e-9)
    assert table["z"].abs().max() < 4 and table["sd"].min() > 0
    np.testing.assert_allclose(table.groupby(["day", "rep"])[["observed", "predicted"]].sum(), 1.0, rtol=1e-6)


def test_a_cell_with_two_guides_of_a_gene_counts_once(checks, small_fit):
    data, table = small_fit.model.data, checks.genes
    gene = table["gene"].iloc[0]
    carriers = {
        i for i in range(data.n_cells) for g in data.cell_guides[data.cell_offsets[i] : data.cell_offsets[i + 1]] if data.genes[data.guide_to_gene[g]] == gene
    }
    assert table[(table["gene"] == gene) & (table["fate"] == "EC")]["cells"].sum() == len(carriers)


def test_a_misfit_is_seen():
    data, _ = make(n_cells=3000)
    twisted = data.fate_prob.clone()
    here = (data.day == 2) & (data.rep == 1)  # a day × replicate interaction that the model does not have
    twisted[here] = twisted[here] * torch.tensor([0.6, 1.0, 1.4])
    table = check_fit(fit(dataclasses.replace(data, fate_prob=twisted / twisted.sum(1, keepdim=True)))).composition
    worst = table.loc[table["z"].abs().idxmax()]
    assert abs(worst["z"]) > 6 and worst["day"] == "d2"


def test_the_family_fits_where_cells_are_many_and_not_where_they_are_few(checks):
    assert checks.family["effective_fraction"].min() > 0.9 and checks.badly_fitted == []
    data, _ = make(n_cells=40, n_genes=6, concentration=None, moi=1.0, tau=3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)  # it may not converge: that is the point
        few = check_fit(fit(data, settings=FitSettings(likelihood_weight=1.0))).family["effective_fraction"]
    assert few.min() < 0.9 * checks.family["effective_fraction"].min()


@pytest.mark.filterwarnings("ignore:the fit did not converge")
def test_mean_field_is_checked_too(small):
    checks = check_fit(fit(small, settings=FitSettings(posterior="mean_field", max_steps=100)))
    assert checks.family is None and checks.badly_fitted == [] and checks.composition["z"].abs().max() < 5


def test_files_and_figure(checks, small_fit, tmp_path):
    write_checks(small_fit, checks, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"check_composition.csv", "check_top_genes.csv", "check_family_by_gene.csv", "scales.csv", "fit.png"}
    assert (tmp_path / "fit.png").read_bytes()[:4] == b"\x89PNG"
    low, mean, high = (checks.scales[c] for c in ("low", "mean", "high"))
    assert (low < mean).all() and (mean < high).all() and set(checks.scales["scale"]) == {"tau", "sigma_time_d1", "sigma_time_d2", "sigma_guide"}


def test_scales_are_those_of_their_posterior(checks, small_fit):
    """Against 4,096 other points. A few would do for θ's moments, but not for the tails of the scales."""
    nodes, weights = small_fit.posterior.integration_points(4096, seed=7)
    among = np.random.default_rng(0).choice(4096, 100_000, p=weights.numpy())
    scales = nodes.exp().numpy()[among].reshape(100_000, -1)
    sd = np.log(scales).std(0)
    limits = np.log(np.quantile(scales, [0.05, 0.95], axis=0)) - np.log(checks.scales[["low", "high"]].to_numpy().T)
    assert (np.abs(limits) / sd).mean() < 0.22 and (np.abs(np.log(scales.mean(0)) - np.log(checks.scales["mean"])) / sd).mean() < 0.1
