import json

import numpy as np
import pandas as pd
import pytest

from data_prep import InputError, ScreenWarning
from fatescreen.runs.fit_files import fit_record, write_posterior
from hierarchy import FitSettings, fit, score_daywise, summarise, write_effects
from hierarchy.effects import check_centred
from tests.hierarchy.conftest import make


@pytest.fixture(scope="module")
def effects(small_fit):
    return summarise(small_fit)


def test_the_gene_table_is_theta_alone(effects, small_fit):
    moments = small_fit.moments()
    for f, fate in enumerate(effects.fates):
        table = effects.gene_table(fate)
        assert list(table.columns) == ["gene", "betahat_d0", "betahat_d1", "betahat_d2", "se_d0", "se_d1", "se_d2"]
        np.testing.assert_array_equal(table.filter(like="betahat"), moments.theta_mean[:, f].numpy())
        np.testing.assert_array_equal(table.filter(like="se_"), moments.theta_sd[:, f].numpy())
    assert list(table["gene"]) == list(small_fit.model.data.genes)


def test_the_guide_table_is_the_sum_with_its_own_error(effects):
    table = effects.guide_table(effects.fates[0])
    theta = effects.gene_table(effects.fates[0]).set_index("gene").loc[table["gene"], "betahat_d1"].to_numpy()
    np.testing.assert_allclose(table["betahat_d1"], theta + effects.delta_mean[:, 0], atol=1e-9)
    own = effects.gene_table(effects.fates[0]).set_index("gene").loc[table["gene"], "se_d1"].to_numpy()
    naive = np.hypot(own, effects.delta_sd[:, 0])
    several = effects.delta_sd[:, 0] > 0
    assert (np.abs(table["se_d1"].to_numpy()[several] / naive[several] - 1) > 0.01).any()  # θ and δ covary


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
    paths = write_effects(effects, tmp_path, contrast_fate=effects.fates[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    again = pd.read_csv(tmp_path / "gene_daywise_for_mash.csv")
    np.testing.assert_allclose(again["se_d2"], effects.theta_sd[:, 1, 2], rtol=1e-9)
    with np.load(tmp_path / "theta_posterior_summary.npz") as summary:  # no pickle in it
        assert summary["mean"].shape == effects.theta_mean.shape and list(summary["fates"]) == list(effects.fates)
    record = json.loads(json.dumps(fit_record(small_fit, contrast_fate="MES", dropped={})))
    assert record["day_columns"] == {"d0": "d0", "d1": "d1", "d2": "d2"} and record["converged"] and record["likelihood_weight"] == small_fit.weight


def test_posterior_file_has_named_coordinates(small_fit, tmp_path):
    arviz = pytest.importorskip("arviz")
    write_posterior(small_fit, tmp_path / "posterior.nc", n_draws=30)
    posterior = arviz.from_netcdf(tmp_path / "posterior.nc").posterior
    assert posterior["theta"].dims == ("chain", "draw", "gene", "fate", "day") and posterior.sizes["draw"] == 30
    assert list(posterior["gene"].values) == list(small_fit.model.data.genes)
    assert {"delta", "tau", "sigma_time", "sigma_guide", "alpha", "b", "gamma"} <= set(posterior)


def test_an_unknown_contrast_is_refused(effects):
    with pytest.raises(InputError, match="'EC' is not one of the non-reference fates. Choose among MES, NEU"):
        effects.gene_table("EC")


def test_scores_count_calls_and_coverage():
    table = pd.DataFrame({"gene": ["A", "B", "C", "D"], "betahat_d0": [1.0, 0.5, 0.0, -1.0], "se_d0": [0.1, 0.1, 0.1, 1.0]})
    truth = pd.DataFrame({"gene": list("ABCD"), "fate": "MES", "day": "d0", "theta": [1.1, 0.0, 0.0, -0.5]})
    row = score_daywise(table, truth, fate="MES").iloc[0]
    assert (row.tp, row.fp, row.fn, row.tn) == (1, 1, 1, 1)
    assert row.coverage == 0.75 and row.null_coverage == 0.5 and row.rmse == pytest.approx(np.sqrt((0.01 + 0.25 + 0.25) / 4))
    with pytest.raises(InputError, match="no fate 'XX'"):
        score_daywise(table, truth, fate="XX")
    with pytest.raises(InputError, match="not in the truth: D"):
        score_daywise(table, truth[:3], fate="MES")
    with pytest.raises(InputError, match="1 days but the truth has 2"):
        score_daywise(table, pd.concat([truth, truth.assign(day="d1")]), fate="MES")
