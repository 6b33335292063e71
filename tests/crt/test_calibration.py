"""Calibration under a global null: pooled p-values are uniform. Fixed seeds; each KS or binomial test alone has false alarm 0.001."""

import numpy as np
import pytest
from scipy import stats

from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from crt.burden import BURDEN_KEY
from crt.engine import all_units
from crt.sampling.methods import BernoulliIndex, StratifiedPermutation
from crt.settings import UnitSettings
from tests.crt.problems import tiny_inputs

SAMPLERS = {"bernoulli": BernoulliIndex(), "stratified": StratifiedPermutation(), "burden": StratifiedPermutation(burden_key=BURDEN_KEY)}


def null_screen(seed, confounding=0.0, n_genes=30, ntc=0.15, n=5000):
    adata = make_sceptre_style_synth(N=n, K=10, n_target_genes=n_genes, frac_causal_genes=0.0, ntc_frac_guides=ntc, confound_strength=confounding, seed=seed)
    return prepare_crt_inputs(adata)


def ntc_sets(inputs, seed, size=6):
    """Random groups of `size` NTC guides."""
    columns = np.random.default_rng(seed).permutation(inputs.ntc_cols)
    groups = columns[: columns.size // size * size].reshape(-1, size)
    return {f"ntc_group_{i}": group for i, group in enumerate(groups)}


def pooled(inputs, sets, sampler, *, mode="fit", B=255):
    settings = UnitSettings(n_resamples=B, sampler=sampler, skew_normal=True, propensity_mode=mode)
    units = all_units(sets, inputs, settings, keep=lambda unit: unit.result)
    return np.concatenate([u.p_raw for u in units]), np.concatenate([u.p_skew for u in units])


def uniform(p, B=None):
    """KS p-value; a p on the grid 1/(B + 1), …, 1 is jittered within its step first, which makes it uniform."""
    if B:
        p = p - np.random.default_rng(0).random(p.size) / (B + 1)
    return stats.kstest(p, "uniform").pvalue


@pytest.mark.parametrize("confounding", [0.0, 0.5])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_genes_and_ntc_groups_are_uniform(sampler, confounding):
    """N = 5000, K = 10, 30 genes and 30 NTC groups, B = 255; with and without confounding by measured covariates."""
    inputs = null_screen(5, confounding, ntc=0.5)
    for sets in (inputs.gene_to_cols, ntc_sets(inputs, 1)):
        raw, skew = pooled(inputs, sets, SAMPLERS[sampler])
        assert raw.size == 300
        assert uniform(raw, 255) > 0.001 and uniform(skew) > 0.001


def test_burden_bins_correct_a_propensity_that_ignores_the_burden():
    """Treatment and usage both depend on the burden. With a constant propensity, burden bins bring the 1 % quantile of NTC groups closer to 0.01."""
    plain, burden = [], []
    for seed in range(6):
        inputs = null_screen(seed, 1.0, ntc=0.7)
        sets = ntc_sets(inputs, seed)
        plain.append(pooled(inputs, sets, SAMPLERS["stratified"], mode="oracle_const", B=999)[0])
        burden.append(pooled(inputs, sets, SAMPLERS["burden"], mode="oracle_const", B=999)[0])
    without, with_burden = np.quantile(np.concatenate(plain), 0.01), np.quantile(np.concatenate(burden), 0.01)
    assert without < with_burden < 0.02
    assert abs(np.log(with_burden / 0.01)) < abs(np.log(without / 0.01))


@pytest.mark.parametrize("reference", [0, 3])
@pytest.mark.parametrize(("n_treated", "ratio"), [(25, 3.0), (100, 0.6)])
def test_guides_bound_to_a_batch(n_treated, ratio, reference):
    """All treated cells lie in one of 16 batches, where the outcome has another SD. With a ridge of 1 on the coefficients p ≤ 0.05 came in 28 % (SD ratio 3,
    that batch the reference level) or 0.2 % (ratio 0.6). 4,000 tests: 4 binomial SE are 0.014."""
    rng = np.random.default_rng(8)
    batch = np.arange(8000) % 16
    C = np.column_stack([np.ones(8000), *(batch == b for b in range(16) if b != reference)])
    Y = rng.normal(size=(8000, 50)) * np.where(batch == 3, ratio, 1.0)[:, None] + rng.normal(size=(16, 50))[batch]
    sets = {f"gene{t}": np.sort(rng.choice(np.flatnonzero(batch == 3), n_treated, replace=False)).astype(np.int32) for t in range(80)}
    inputs = tiny_inputs(C, Y, sets)
    raw, _ = pooled(inputs, inputs.gene_to_cols, SAMPLERS["bernoulli"])
    assert 0.036 < (raw <= 0.05).mean() < 0.064 and (raw <= 1 / 256).mean() < 0.008


@pytest.mark.slow
@pytest.mark.parametrize("confounding", [0.0, 0.5])
@pytest.mark.parametrize("method", ["bernoulli_index", "stratified_perm"])
def test_type_one_error_at_1023(method, confounding):
    """12,000 null tests at B = 1023: rejections at 0.05, 0.01 and 0.001 within 4.5 binomial SE, doubled in variance for the correlation of programs."""
    raw, skew = [], []
    for seed in range(12):
        result = run_all_genes_union_crt(
            null_screen(100 + seed, confounding, n_genes=100), resampling_method=method, return_skew_normal=True, return_raw_pvals=True, n_jobs=2
        )
        raw.append(result.pvals_raw_df.to_numpy().ravel())
        skew.append(result.pvals_skew_df.to_numpy().ravel())
    for p in (np.concatenate(raw), np.concatenate(skew)):
        for level in (0.05, 0.01, 0.001):
            assert abs((p <= level).mean() - level) < 4.5 * np.sqrt(2 * level * (1 - level) / p.size)
