"""The simulator: its truth, its sizes, its seeds."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import data_prep
from data_prep.errors import InputError
from data_prep.read.screen import read_screen
from data_prep.simulate.design import ScreenDesign
from data_prep.simulate.fates import simulate_fate_screen
from data_prep.tensors import build_fate_data, fingerprint

SMALL = {"n_cells": 200, "n_genes": 5, "n_ntc_guides": 3, "n_days": 3, "moi": 2.0}


def test_sizes_and_truth():
    design = ScreenDesign(**SMALL, guides_per_gene=(1, 4), n_reps=3, fates=("A", "B", "C", "D"), effects="model", frac_null=0.4)
    sim = simulate_fate_screen(design, seed=3)
    targeting = sim.guide_map.query("~is_ntc")
    assert sim.theta.shape == (5, 3, 3) and sim.delta.shape == (len(targeting), 3)
    assert sim.adata.shape[0] == 200 and sim.adata.obsm["guide"].shape == (200, len(sim.guide_map))
    assert sim.guide_map["is_ntc"].sum() == 3 and set(sim.guide_map["gene_name"][sim.guide_map["is_ntc"]]) == {"non-targeting"}
    assert targeting.groupby("gene_name").size().between(1, 4).all() and sim.guide_map["guide_name"].is_unique
    assert list(sim.truth.columns) == ["gene", "fate", "day", "theta"] and len(sim.truth) == sim.theta.size
    assert set(sim.truth["fate"]) == {"B", "C", "D"}
    genes = sorted(set(targeting["gene_name"]))
    for row in sim.truth.itertuples():
        assert row.theta == sim.theta[genes.index(row.gene), "BCD".index(row.fate), int(row.day[1:])]
    data = build_fate_data(read_screen(sim.adata), ref_fate="A")
    assert (data.genes, data.fates, data.days, data.n_reps) == (tuple(genes), ("A", "B", "C", "D"), ("d0", "d1", "d2"), 3)


def test_delta_is_centred_within_genes():
    sim = simulate_fate_screen(ScreenDesign(**SMALL, guides_per_gene=(1, 5)), seed=0)
    gene = sim.guide_map.query("~is_ntc")["gene_name"].to_numpy()
    for name in set(gene):
        own = sim.delta[gene == name]
        assert np.abs(own.mean(0)).max() < 1e-12
        assert len(own) > 1 or not own.any()
    assert sim.delta.std() > 0.05


@pytest.mark.parametrize("concentration", [None, 5.0, 50.0])
def test_fates_are_probabilities(concentration):
    prob = simulate_fate_screen(ScreenDesign(**SMALL, concentration=concentration), seed=0).adata.obsm["lineages_fwd"].to_numpy()
    np.testing.assert_allclose(prob.sum(1), 1, atol=1e-12)
    assert (prob >= 0).all()
    onehot = np.isin(prob, [0.0, 1.0]).all()
    assert onehot == (concentration is None)
    assert (prob.mean(0) > 0.1).all()


def test_guides_are_present_once():
    guides = simulate_fate_screen(ScreenDesign(**SMALL), seed=0).adata.obsm["guide"]
    assert (guides.data == 1).all() and guides.has_canonical_format
    assert 1.5 < guides.nnz / 200 < 2.1


def test_daylocal_effects():
    theta = simulate_fate_screen(ScreenDesign(**SMALL | {"n_genes": 20}, frac_active=0.25), seed=0).theta
    assert ((theta != 0).any(1).sum(0) == 5).all()
    size = np.abs(theta[theta != 0])
    assert size.min() >= 0.2 and size.max() <= 1.0 and (theta < 0).any() and (theta > 0).any()
    assert not simulate_fate_screen(ScreenDesign(**SMALL, frac_active=0.0), seed=0).theta.any()


@pytest.mark.parametrize(("kind", "n_days"), [("constant", 1), ("constant", 4), ("early", 2), ("early", 4), ("late", 4), ("transient", 3), ("transient", 5)])
def test_effects_of_one_pattern(kind, n_days):
    """A fifth of the genes, with one size on the days of the pattern and nothing on the others; every set of days that the pattern allows occurs."""
    design = ScreenDesign(n_cells=10, n_genes=1000, guides_per_gene=1, n_days=n_days, effects=kind, frac_active=0.2)
    theta = simulate_fate_screen(design, seed=0).theta
    active = theta[theta.any((1, 2))]
    assert len(active) == 200 and np.array_equal(active[:, 0], active[:, 1])
    on = active[:, 0] != 0
    size = np.abs(active[:, 0]).max(1)
    assert np.array_equal(np.abs(active[:, 0]), on * size[:, None]) and size.min() >= 0.2 and size.max() <= 1.0
    rising, falling = (np.diff(on.astype(int)) == 1).sum(1), (np.diff(on.astype(int)) == -1).sum(1)
    steps = {"constant": (0, 0), "early": (0, 1), "late": (1, 0), "transient": (1, 1)}[kind]
    assert (rising == steps[0]).all() and (falling == steps[1]).all()
    allowed = {"constant": 1, "early": n_days - 1, "late": n_days - 1, "transient": (n_days - 1) * (n_days - 2) // 2}[kind]
    assert len(np.unique(on, axis=0)) == allowed


def test_model_effects_have_the_stated_scales():
    design = ScreenDesign(n_cells=10, n_genes=4000, guides_per_gene=1, n_days=3, effects="model", frac_null=0.25, tau=0.4, sigma_time=0.1)
    theta = simulate_fate_screen(design, seed=0).theta
    null = ~theta.any((1, 2))
    assert null.mean() == pytest.approx(0.25, abs=0.03)
    assert theta[~null, :, 0].std() == pytest.approx(0.4, rel=0.05)
    assert np.diff(theta[~null], axis=-1).std() == pytest.approx(0.1, rel=0.05)
    constant = simulate_fate_screen(ScreenDesign(**SMALL, effects="model", sigma_time=0.0), seed=0).theta
    assert np.isfinite(constant).all() and not np.diff(constant, axis=-1).any() and constant.any()


def test_strong_effects_show_in_the_fates():
    design = ScreenDesign(n_cells=4000, n_genes=3, guides_per_gene=2, n_days=1, moi=1.0, effects="model", frac_null=0.0, tau=2.0, sigma_guide=0.0)
    sim = simulate_fate_screen(design, seed=4)
    carries = sim.adata.obsm["guide"].toarray() @ (sim.guide_map["gene_name"].to_numpy()[:, None] == ["GENE0", "GENE1", "GENE2"]) > 0
    log_odds = np.log(sim.adata.obsm["lineages_fwd"]["MES"] / sim.adata.obsm["lineages_fwd"]["EC"]).to_numpy()
    shift = np.array([np.median(log_odds[carries[:, j]]) - np.median(log_odds[~carries[:, j]]) for j in range(3)])
    big = np.abs(sim.theta[:, 0, 0]) > 0.5
    assert big.any() and (np.sign(shift[big]) == np.sign(sim.theta[big, 0, 0])).all()


def test_days_follow_their_weights():
    sim = simulate_fate_screen(ScreenDesign(**SMALL | {"n_cells": 4000}, day_weights=(1, 2, 5)), seed=0)
    np.testing.assert_allclose(sim.adata.obs["day"].value_counts(normalize=True, sort=False).loc[["d0", "d1", "d2"]], [1 / 8, 2 / 8, 5 / 8], atol=0.04)


def test_the_seed_decides():
    prints = [fingerprint(read_screen(simulate_fate_screen(ScreenDesign(**SMALL), seed=s).adata), ref_fate="EC") for s in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.slow
def test_the_hash_seed_does_not():
    code = (
        "from data_prep.read.screen import read_screen; from data_prep.simulate.fates import *; from data_prep.tensors import fingerprint;"
        f"print(fingerprint(read_screen(simulate_fate_screen(ScreenDesign(**{SMALL}), seed=1).adata), ref_fate='EC'))"
    )
    root = str(Path(data_prep.__file__).resolve().parents[1])
    here = fingerprint(read_screen(simulate_fate_screen(ScreenDesign(**SMALL), seed=1).adata), ref_fate="EC")
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": root}  # this process has a random one
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_cells": 0}, "n_cells is 0; it must be a whole number, at least 1"),
        ({"n_genes": 2.5}, "n_genes is 2.5; it must be a whole number"),
        ({"n_ntc_guides": -1}, "n_ntc_guides is -1"),
        ({"fates": ("A",)}, "two or more different names"),
        ({"fates": ("A", "A")}, "two or more different names"),
        ({"guides_per_gene": 0}, "guides_per_gene is 0"),
        ({"guides_per_gene": (4, 2)}, r"guides_per_gene is \(4, 2\).*low <= high"),
        ({"moi": 0}, "moi is 0"),
        ({"moi": float("nan")}, "moi is nan"),
        ({"concentration": -1.0}, "concentration -1.0; they must be positive"),
        ({"effects": "none"}, "choose 'daylocal', 'constant', 'early', 'late', 'transient', 'model'"),
        ({"effects": "late", "n_days": 1}, "effects are 'late', which takes at least 2 days; n_days is 1"),
        ({"effects": "transient", "n_days": 2}, "takes at least 3 days"),
        ({"frac_active": 1.5}, "frac_active is 1.5; it must be from 0 to 1"),
        ({"sigma_guide": -0.1}, "sigma_guide is -0.1; it must be at least 0"),
        ({"day_weights": (1.0,)}, "1 entries for 4 days"),
        ({"day_weights": (0, 0, 0, 0)}, "day_weights are"),
    ],
)
def test_impossible_designs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ScreenDesign(**settings)


def test_numpy_sizes_are_taken():
    assert ScreenDesign(n_cells=np.int64(10), guides_per_gene=np.int64(3)).guide_range == (3, 3)
