"""Checks on the screen's own controls: they find errors that are too small, and pass screens that are like the model."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from data_prep import ScreenDesign, ScreenKeys, ScreenWarning, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import FitSettings, check_ntc, check_permuted, fit, summarise
from hierarchy.self_check import NtcCheck, _permuted, _Scores

DESIGN = {"n_cells": 4000, "n_genes": 20, "guides_per_gene": 3, "n_ntc_guides": 60, "n_days": 2, "effects": "model"}


def checked(adata, keys=None, **settings):
    screen = read_screen(adata, keys=keys or ScreenKeys(), max_guides_per_cell=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        fitted = fit(build_fate_data(screen, ref_fate="EC"), settings=FitSettings(**settings))
    return check_ntc(fitted, screen), fitted


def redrawn(adata, precision, rng):
    """Dirichlet noise of these precisions about the probabilities."""
    draw = rng.standard_gamma(np.maximum(adata.obsm["lineages_fwd"].to_numpy(), 1e-6) * np.reshape(precision, (-1, 1)))
    adata.obsm["lineages_fwd"].iloc[:, :] = draw / draw.sum(1, keepdims=True)


def clones(seed, copies=5):
    """Cells that share a founder's guides and most of its fate noise."""
    founders = simulate_fate_screen(ScreenDesign(**(DESIGN | {"n_cells": 1200})), seed=seed).adata
    ids = np.repeat(np.arange(1200), copies)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names repeat until made unique
        adata = founders[ids].copy()
    adata.obs_names_make_unique()
    redrawn(adata, np.full(len(ids), 50.0), np.random.default_rng(seed))
    adata.obs["clone"] = ids.astype(str)
    return adata


def bound_to_batches(seed, n_batches=6):
    """Batches that shift the fates: half of the cells are in the batch of one of their guides, the others in any."""
    design = ScreenDesign(**(DESIGN | {"n_genes": 10, "n_ntc_guides": 120, "moi": 1.0}))
    adata, rng = simulate_fate_screen(design, seed=seed).adata, np.random.default_rng(seed)
    guides = adata.obsm["guide"].tocsr()
    count, batch = np.diff(guides.indptr), rng.integers(n_batches, size=adata.n_obs)
    bound = (count > 0) & (rng.random(adata.n_obs) < 0.5)
    one = guides.indices[guides.indptr[:-1][bound] + (rng.random(bound.sum()) * count[bound]).astype(int)]
    batch[bound] = rng.integers(n_batches, size=guides.shape[1])[one]
    prob = adata.obsm["lineages_fwd"]
    shifted = prob.to_numpy() * np.exp(0.7 * rng.normal(size=(n_batches, prob.shape[1])))[batch]
    prob.iloc[:, :] = shifted / shifted.sum(1, keepdims=True)
    adata.obs["batch"] = [f"b{i}" for i in batch]
    return adata


def test_a_hidden_batch_is_found_and_as_replicates_it_is_not():
    hidden = [checked(bound_to_batches(seed))[0] for seed in range(3)]
    assert all(check.table["sd"].iloc[-1] > 1.3 and len(check.wrong) for check in hidden)
    known = [checked(bound_to_batches(seed), ScreenKeys(rep="batch"))[0] for seed in range(3)]
    assert not any(len(check.wrong) for check in known) and abs(np.mean([check.table["sd"].iloc[-1] for check in known]) - 1) < 0.2


@pytest.mark.parametrize("concentration", [50.0, None], ids=["dirichlet", "one-hot"])
def test_clean_screens_pass(concentration):
    """The intervals hold together at 95 % and must lie outside 0.9 to 1.1: with five screens one or more warnings have a probability below 5 %."""
    found = [checked(simulate_fate_screen(ScreenDesign(**DESIGN, concentration=concentration), seed=seed).adata)[0] for seed in range(5)]
    assert not any(len(check.wrong) for check in found)
    sds = [check.table["sd"].iloc[-1] for check in found]
    assert abs(np.mean(sds) - 1) < 0.1  # 40 independent z-scores in each of 5 screens: one SD of the mean is 0.05


def test_clones_are_found_and_the_sandwich_corrects_them():
    found = [checked(clones(seed))[0] for seed in range(3)]
    assert all(check.table["sd"].iloc[-1] > 1.4 and len(check.wrong) for check in found)
    with pytest.warns(ScreenWarning, match=r"standard errors are too small: z-scores of NTC pseudo-genes should have an SD of 1, but it is .*all: \d\.\d\d"):
        found[0].warn()
    corrected = [checked(clones(seed), ScreenKeys(cluster="clone"), se="sandwich")[0] for seed in range(3)]
    assert not any(len(check.wrong) for check in corrected) and abs(np.mean([check.table["sd"].iloc[-1] for check in corrected]) - 1) < 0.2


def test_noise_by_day_is_found_under_a_common_weight():
    adata = simulate_fate_screen(ScreenDesign(**(DESIGN | {"n_cells": 6000, "n_ntc_guides": 120, "concentration": 1e6})), seed=0).adata
    redrawn(adata, np.array([100.0, 4.0])[adata.obs["day"].cat.codes], np.random.default_rng(0))
    common = checked(adata, likelihood_weight="common")[0].table.set_index("day")
    assert common.loc["d0", "sd"] < 0.6 and common.loc["d1", "sd"] > 1.15
    assert "d0" in set(checked(adata, likelihood_weight="common")[0].wrong["day"])
    assert not len(checked(adata)[0].wrong)


def test_the_sandwich_by_cell_agrees_with_clusters_of_one_cell():
    screen = simulate_fate_screen(ScreenDesign(**DESIGN), seed=1).adata
    alone = checked(screen, se="sandwich")[0]
    screen.obs["cell"] = [f"c{i}" for i in range(screen.n_obs)]
    screen.obs.loc[screen.obs_names[1], "cell"] = "c0"  # one cluster fewer than cells: the sum over clusters
    named = checked(screen, ScreenKeys(cluster="cell"), se="sandwich")[0]
    np.testing.assert_allclose(named.z, alone.z, rtol=0.05, atol=0.02)


def test_z_scores_are_those_of_a_regression_on_centred_counts(small_fit):
    scores, rng = _Scores.of(small_fit), np.random.default_rng(0)
    day = small_fit.model.data.day.numpy()
    carried, groups = rng.integers(0, 2, size=(len(day), 8)), np.repeat(np.eye(4), 2, axis=0)
    count = carried @ groups
    z = scores.z(sp.csr_matrix(carried), sp.csr_matrix(groups))
    (state,) = scores.states.items
    curvature, residual = state.curvature.numpy()[:, [[0, 1], [1, 2]]], state.residual.numpy()
    for group, d in np.ndindex(4, 3):
        own = day == d
        centred = count[own, group] - count[own, group].mean()
        info = scores.share * np.einsum("i,ifg->fg", centred**2, curvature[own])
        want = np.linalg.solve(info, centred @ residual[own]) / np.sqrt(np.diag(np.linalg.inv(info)))
        np.testing.assert_allclose(z[group, :, d], want, rtol=1e-6, atol=1e-9)


def test_too_few_controls_are_no_check():
    assert checked(simulate_fate_screen(ScreenDesign(**(DESIGN | {"n_ntc_guides": 4})), seed=0).adata)[0] is None


def test_the_factor_is_shrunk_to_one_and_scales_every_error():
    def check(sd, groups):
        return NtcCheck(table=pd.DataFrame([{"day": "all", "freedom": groups, "mean": 0.0, "sd": sd, "low": sd, "high": sd}]), z=np.zeros((1, 1, 1)))

    assert check(1.8, 4000).factor == pytest.approx(1.8, rel=0.01) and check(1.0, 40).factor == 1.0
    assert 1.0 < check(1.1, 40).factor < 1.05 and 0.95 < check(0.9, 40).factor < 1.0
    fitted = checked(simulate_fate_screen(ScreenDesign(**DESIGN), seed=2).adata)[1]
    own = summarise(fitted)
    scaled = own.with_errors_times(1.5)
    for name in ("of_genes", "of_guides"):
        before, after = getattr(own, name)("MES:NEU"), getattr(scaled, name)("MES:NEU")
        np.testing.assert_allclose(after.se, 1.5 * before.se)
        np.testing.assert_allclose(after.sd, 1.5 * before.sd)
        np.testing.assert_array_equal(after.estimate, before.estimate)


def test_permuted_guides_have_no_effects():
    """240 estimates in each of three screens whose two fates share the reference: one SD of the share is 1 %, and the bounds are 3.5 SDs."""
    screens = [simulate_fate_screen(ScreenDesign(**(DESIGN | {"n_genes": 60})), seed=seed).adata for seed in range(3)]
    found = [check_permuted(checked(adata)[1]) for adata in screens]
    assert [check.estimates for check in found] == [240] * 3
    assert abs(np.mean([check.share for check in found]) - 0.05) < 0.035


def test_permutations_keep_days_replicates_and_clusters():
    data = checked(clones(0), ScreenKeys(cluster="clone"), se="sandwich")[1].model.data
    data = dataclasses.replace(data, guide_burden=data.guide_burden + 0)
    moved = _permuted(data, np.random.default_rng(0))
    before, after = ([tuple(own.tolist()) for own in np.split(d.cell_guides.numpy(), d.cell_offsets.numpy()[1:-1])] for d in (data, moved))
    where = list(zip(data.day.tolist(), data.rep.tolist(), strict=True))
    burden = [d.guide_burden.tolist() for d in (data, moved)]
    assert before != after
    assert sorted(zip(where, before, burden[0], strict=True)) == sorted(zip(where, after, burden[1], strict=True))
    cluster = data.cluster.numpy()
    assert all(len({after[i] for i in np.flatnonzero(cluster == c)}) == 1 for c in range(50))  # all of a cluster have one founder's guides
