import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from data_prep import InputError, ScreenWarning
from fatescreen.runs.fit_files import fit_record, write_posterior
from hierarchy import FitSettings, fit, score_daywise, summarise, write_effects
from hierarchy.effects import check_centred
from tests.hierarchy.conftest import make


@pytest.fixture(scope="module")
def effects(small_fit):
    return summarise(small_fit)


def test_the_tables_for_mash_hold_estimates_and_the_others_posterior_moments(effects, small_fit):
    moments, estimates, cells = small_fit.moments(), small_fit.estimates(), small_fit.model.design.gene_cells
    for f, fate in enumerate(effects.fates):
        table, posterior = effects.gene_table(fate), effects.gene_posterior_table(fate)
        assert list(table.columns) == ["gene", "betahat_d0", "betahat_d1", "betahat_d2", "se_d0", "se_d1", "se_d2"]
        np.testing.assert_array_equal(table.filter(like="betahat"), estimates.theta[:, f].numpy())
        variance = estimates.theta_covariance.diagonal(dim1=1, dim2=2).reshape(estimates.theta.shape)[:, f]
        np.testing.assert_allclose(table.filter(like="se_"), variance.sqrt().numpy(), rtol=1e-12)
        np.testing.assert_array_equal(posterior.filter(like="betahat"), moments.theta_mean[:, f].numpy())
        np.testing.assert_allclose(posterior.filter(like="se_"), moments.theta_sd[:, f].numpy(), rtol=1e-12)
        np.testing.assert_allclose(posterior.filter(like="lfsr_"), norm.sf((moments.theta_mean / moments.theta_sd).abs()[:, f].numpy()), rtol=1e-9)
        np.testing.assert_array_equal(posterior.filter(like="n_cells_"), cells.numpy())
        assert list(table["gene"]) == list(posterior["gene"]) == list(small_fit.model.data.genes)


def test_cells_of_genes_and_guides(effects, small):
    carried = np.zeros((small.n_cells, small.n_guides), bool)
    carried[np.repeat(np.arange(small.n_cells), np.diff(small.cell_offsets)), small.cell_guides] = True
    day = np.eye(small.n_days, dtype=int)[small.day]
    np.testing.assert_array_equal(effects.guide_cells, carried.T.astype(int) @ day)
    np.testing.assert_array_equal(effects.guide_posterior_table("MES").filter(like="n_cells_"), effects.guide_cells)
    own = [carried[:, (small.guide_to_gene == gene).numpy()].any(1) for gene in range(small.n_genes)]
    np.testing.assert_array_equal(effects.gene_cells, np.array(own).astype(int) @ day)


def test_the_guide_table_is_the_sum_with_its_own_error(effects):
    table = effects.guide_posterior_table(effects.fates[0])
    theta = effects.gene_posterior_table(effects.fates[0]).set_index("gene").loc[table["gene"], "betahat_d1"].to_numpy()
    np.testing.assert_allclose(table["betahat_d1"], theta + effects.delta_mean[:, 0], atol=1e-9)
    own = effects.gene_posterior_table(effects.fates[0]).set_index("gene").loc[table["gene"], "se_d1"].to_numpy()
    naive = np.hypot(own, effects.delta_sd[:, 0])
    several = effects.delta_sd[:, 0] > 0
    assert (np.abs(table["se_d1"].to_numpy()[several] / naive[several] - 1) > 0.01).any()  # θ and δ covary


def test_contrasts_have_the_error_of_the_joint_covariance(effects, small_fit):
    a, b, between, turned = (effects.of_genes(contrast) for contrast in ("MES", "NEU", "MES:NEU", "NEU:MES"))
    np.testing.assert_allclose(between.estimate, a.estimate - b.estimate)
    np.testing.assert_array_equal(between.estimate, -turned.estimate)
    np.testing.assert_allclose(effects.of_genes("EC:MES").mean, -a.mean)
    drawn = small_fit.draws(4000).theta
    sd = (drawn[:, :, 0] - drawn[:, :, 1]).std(0).numpy()
    assert np.abs(between.sd / sd - 1).max() < 5 / 8000**0.5 + 0.05
    assert np.abs(between.sd / np.hypot(a.sd, b.sd) - 1).max() > 0.05  # contrasts share the reference
    joint = effects.theta_estimate_covariance.reshape(-1, 2, 3, 2, 3)
    np.testing.assert_allclose(between.se**2, [[c[0, d, 0, d] + c[1, d, 1, d] - 2 * c[0, d, 1, d] for d in range(3)] for c in joint])
    guides = effects.of_guides("MES:NEU")
    np.testing.assert_allclose(guides.mean, effects.of_guides("MES").mean - effects.of_guides("NEU").mean)


def test_the_long_table_has_every_contrast(effects):
    table = effects.long_table(["MES", "MES:NEU"])
    assert list(table.columns) == ["gene", "contrast", "day", "betahat", "se", "mean", "sd", "lfsr", "n_cells"]
    assert len(table) == 2 * 6 * 3 and list(dict.fromkeys(table["contrast"])) == ["MES:EC", "MES:NEU"]
    own = table[(table["contrast"] == "MES:NEU") & (table["gene"] == "GENE2")]
    np.testing.assert_array_equal(own["betahat"], effects.of_genes("MES:NEU").estimate[2])
    assert list(own["day"]) == ["d0", "d1", "d2"]


def test_quality_control_is_zero_for_a_centred_fit(effects):
    fate = effects.fates[0]
    delta, offset = effects.qc_delta(fate), effects.qc_offset(fate)
    assert list(delta.columns) == ["gene", "n_guides", "delta_mean_gene", "delta_sd_gene"]
    assert list(offset.columns) == ["gene", "n_guides", "offset_mean", "offset_sd_across_days"]
    assert delta["delta_mean_gene"].abs().max() < 1e-9 and offset["offset_mean"].abs().max() < 1e-9
    check_centred(effects, simulated=True)


def test_an_offset_stops_a_simulated_run_and_warns_in_a_real_one():
    data, _ = make(n_genes=12)
    effects = summarise(fit(data, settings=FitSettings(center_guides=False)))
    with pytest.raises(AssertionError, match=r"offset from θ by more than 0\.02 in \d+ genes: GENE"):
        check_centred(effects, simulated=True)
    for simulated, centred in ((False, True), (True, False)):
        with pytest.warns(ScreenWarning, match="offset from θ"):
            check_centred(effects, simulated=simulated, centred=centred)


def test_files_and_record(effects, small_fit, tmp_path):
    paths = write_effects(effects, tmp_path, contrast_fate=["NEU", "MES:NEU"])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    again = pd.read_csv(tmp_path / "gene_daywise_posterior.csv")
    np.testing.assert_allclose(again["se_d2"], effects.theta_sd[:, 1, 2], rtol=1e-9)
    assert set(pd.read_csv(tmp_path / "effects.csv")["contrast"]) == {"NEU:EC", "MES:NEU"}
    with np.load(tmp_path / "theta_posterior_summary.npz") as summary:  # no pickle in it
        assert summary["mean"].shape == effects.theta_mean.shape and list(summary["fates"]) == list(effects.fates)
    table = pd.read_csv(tmp_path / "gene_daywise_for_mash.csv")
    with np.load(tmp_path / "theta_covariance.npz") as held:
        assert list(held["genes"]) == list(table["gene"]) and list(held["fates"]) == ["MES", "NEU"] and list(held["reference"]) == ["EC"]
        own = np.einsum("lfdge,f,g->lde", held["covariance"].reshape(-1, 2, 3, 2, 3), held["contrast"], held["contrast"])
        np.testing.assert_allclose(np.sqrt(own.diagonal(axis1=1, axis2=2)), table.filter(like="se_"), rtol=1e-9)
    record = json.loads(json.dumps(fit_record(small_fit, contrast_fate=["MES"], dropped={})))
    assert record["day_columns"] == {"d0": "d0", "d1": "d1", "d2": "d2"} and record["converged"] and record["likelihood_weight"] == small_fit.weight


def test_posterior_file_has_named_coordinates(small_fit, tmp_path):
    arviz = pytest.importorskip("arviz")
    write_posterior(small_fit, tmp_path / "posterior.nc", n_draws=30)
    posterior = arviz.from_netcdf(tmp_path / "posterior.nc").posterior
    assert posterior["theta"].dims == ("chain", "draw", "gene", "fate", "day") and posterior.sizes["draw"] == 30
    assert list(posterior["gene"].values) == list(small_fit.model.data.genes)
    assert {"delta", "tau", "sigma_time", "sigma_guide", "alpha", "b", "gamma"} <= set(posterior)


@pytest.mark.parametrize("contrast", ["EC", "MES:MES", "XX", "MES:XX", "MES:", ""])
def test_an_unknown_contrast_is_refused(effects, contrast):
    with pytest.raises(InputError, match=f"'{contrast}' is not a non-reference fate or two fates as A:B. Choose among MES, NEU .against EC."):
        effects.gene_table(contrast)


def test_scores_count_calls_and_coverage():
    table = pd.DataFrame({"gene": ["A", "B", "C", "D"], "betahat_d0": [1.0, 0.5, 0.0, -1.0], "se_d0": [0.1, 0.1, 0.1, 1.0]})
    truth = pd.DataFrame({"gene": list("ABCD"), "fate": "MES", "day": "d0", "theta": [1.1, 0.0, 0.0, -0.5]})
    row = score_daywise(table, truth, fate="MES").iloc[0]
    assert (row.tp, row.fp, row.fn, row.tn) == (1, 1, 1, 1)
    assert row.coverage == 0.75 and row.null_coverage == 0.5 and row.active_coverage == 1.0 and row.estimates == "likelihood"
    assert row.rmse == pytest.approx(np.sqrt((0.01 + 0.25 + 0.25) / 4))
    with pytest.raises(InputError, match="no fate 'XX'"):
        score_daywise(table, truth, fate="XX")
    with pytest.raises(InputError, match="not in the truth: D"):
        score_daywise(table, truth[:3], fate="MES")
    with pytest.raises(InputError, match="1 days but the truth has 2"):
        score_daywise(table, pd.concat([truth, truth.assign(day="d1")]), fate="MES")


def test_scores_leave_out_what_is_missing_and_say_which_estimates():
    table = pd.DataFrame({"gene": ["A", "B"], "betahat_d0": [1.0, np.nan], "se_d0": [0.1, np.nan]})
    truth = pd.DataFrame({"gene": ["A", "B"], "fate": "MES", "day": "d0", "theta": [1.1, 0.0]})
    row = score_daywise(table.assign(lfsr_d0=0.1), truth, fate="MES").iloc[0]
    assert row.estimates == "posterior" and (row.tp, row.fp, row.fn, row.tn) == (1, 0, 0, 0) and row.coverage == 1.0
    with pytest.raises(InputError, match="only one of betahat_d0 and se_d0 in row 1 .B."):
        score_daywise(table.assign(se_d0=0.1), truth, fate="MES")
