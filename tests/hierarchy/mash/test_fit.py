"""mash against mashr's own numbers, a slow dense computation, and simulated truth."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from data_prep.errors import InputError, ScreenWarning
from hierarchy.mash.covariances import canonical, deconvolve, temporal
from hierarchy.mash.data import mash_data, null_correlation
from hierarchy.mash.fit import fit_mash
from hierarchy.mash.mixture import Prior, autoselect_grid, fit_weights, log_likelihood_ratios
from tests import ORACLES

MASHR = ORACLES / "mash"
RUNS = {"gene_canonical_Videntity": 365.82201880944677, "gene_datadriven_Vsimple": 385.75631555134225}


def square(table, value):
    return table.pivot(index="row", columns="col", values=value).to_numpy(np.float64)


@pytest.fixture(scope="module", params=RUNS)
def oracle(request):
    """The estimates, mashr's settings and weights, and its posterior."""
    folder = MASHR / request.param
    estimates = pd.read_csv(MASHR / "input.csv")
    listed = pd.read_csv(folder / "Ulist.csv")
    return {
        "betahat": estimates.filter(like="betahat").to_numpy(),
        "se": estimates.filter(like="se_").to_numpy(),
        "V": square(pd.read_csv(folder / "V.csv"), "V"),
        "covariances": {name: square(own, "value") for name, own in listed.groupby("U", sort=False)},
        "grid": pd.read_csv(folder / "grid.csv")["grid"].to_numpy(),
        "weights": pd.read_csv(folder / "pi.csv")["pi"].to_numpy(),
        "components": pd.read_csv(folder / "pi.csv", keep_default_na=False)["component"].tolist(),
        "posterior": pd.read_csv(folder / "posterior.csv"),
        "log_likelihood": RUNS[request.param],
    }


def settings(oracle, **more):
    return {name: oracle[name] for name in ("V", "covariances", "grid")} | more


def test_mashr_at_its_weights(oracle):
    fitted = fit_mash(oracle["betahat"], oracle["se"], **settings(oracle, weights=oracle["weights"]))
    posterior = oracle["posterior"]
    assert fitted.log_likelihood == pytest.approx(oracle["log_likelihood"], abs=1e-8)
    np.testing.assert_allclose(fitted.log_likelihoods, posterior["vloglik"], atol=1e-8)
    for ours, theirs in ((fitted.mean, "pm"), (fitted.sd, "psd"), (fitted.lfsr, "lfsr"), (fitted.negative_prob, "negprob")):
        np.testing.assert_allclose(ours, posterior.filter(regex=f"^{theirs}_"), atol=1e-10)


def test_weights_are_at_least_as_good_as_mashrs(oracle):
    ours = fit_mash(oracle["betahat"], oracle["se"], **settings(oracle))
    theirs = fit_mash(oracle["betahat"], oracle["se"], **settings(oracle, weights=oracle["weights"]))
    penalised = [fitted.log_likelihood + 9 * np.log(fitted.weights[0]) for fitted in (ours, theirs)]
    assert penalised[0] >= penalised[1] - 1e-9
    assert ours.gap < 1e-6


def test_names_of_components_and_grid_are_mashrs(oracle):
    fitted = fit_mash(oracle["betahat"], oracle["se"], **settings(oracle))
    assert list(fitted.names) == oracle["components"]
    np.testing.assert_allclose(autoselect_grid(oracle["betahat"], oracle["se"], np.ones_like(oracle["se"], bool)), oracle["grid"], rtol=1e-12)


def test_null_correlation_is_mashrs():
    estimates = pd.read_csv(MASHR / "input.csv")
    theirs = square(pd.read_csv(MASHR / "gene_datadriven_Vsimple" / "V.csv"), "V")
    np.testing.assert_allclose(null_correlation(estimates.filter(like="betahat").to_numpy(), estimates.filter(like="se_").to_numpy()), theirs, atol=1e-10)


def dense(betahat, se, V, covariances, grid, weights):
    """Posterior moments and log likelihoods of each gene, component by component, on its observed conditions."""
    n = betahat.shape[1]
    parts = [np.zeros((n, n)), *(w**2 * U for w in grid for U in covariances.values())]
    mean, second, log_lik = np.zeros_like(betahat), np.zeros_like(betahat), np.zeros(len(betahat))
    for g in range(len(betahat)):
        own = np.flatnonzero(np.isfinite(betahat[g]))
        C = (np.diag(se[g]) @ (V if V.ndim == 2 else V[g]) @ np.diag(se[g]))[np.ix_(own, own)]
        density = np.array(
            [p * multivariate_normal(np.zeros(own.size), C + U[np.ix_(own, own)]).pdf(betahat[g, own]) for p, U in zip(weights, parts, strict=True)]
        )
        log_lik[g] = np.log(density.sum())
        for p, U in zip(density / density.sum(), parts, strict=True):
            gain = U[:, own] @ np.linalg.inv(C + U[np.ix_(own, own)])
            m = gain @ betahat[g, own]
            mean[g] += p * m
            second[g] += p * (np.diag(U - gain @ U[own]) + m**2)
    return mean, np.sqrt(second - mean**2), log_lik


@pytest.mark.parametrize("per_gene", [False, True])
def test_missing_conditions_and_a_correlation_for_each_gene(per_gene):
    rng = np.random.default_rng(3)
    n, d = 12, 4
    betahat, se = rng.normal(0, 1, (n, d)), rng.uniform(0.2, 0.6, (n, d))
    betahat[rng.random((n, d)) < 0.3] = np.nan
    betahat[0] = [np.nan, 0.7, np.nan, np.nan]
    root = rng.normal(size=(n, d, 2 * d))
    V = root @ root.transpose(0, 2, 1)
    V /= np.sqrt(V.diagonal(axis1=1, axis2=2)[:, :, None] * V.diagonal(axis1=1, axis2=2)[:, None])
    V = V if per_gene else V[0]
    covariances = {name: canonical(d)[name] for name in ("identity", "singleton_2", "equal_effects", "simple_het_2")} | {"walk": temporal(d)["random_walk"]}
    grid = np.array([0.3, 1.0])
    weights = rng.dirichlet(np.ones(1 + 2 * len(covariances)))
    fitted = fit_mash(betahat, np.where(np.isnan(betahat), np.nan, se), V=V, covariances=covariances, grid=grid, weights=weights)
    mean, sd, log_lik = dense(betahat, se, V, covariances, grid, weights)
    np.testing.assert_allclose(fitted.mean, mean, atol=1e-10)
    np.testing.assert_allclose(fitted.sd, sd, atol=1e-10)
    np.testing.assert_allclose(fitted.log_likelihoods, log_lik, atol=1e-10)


def test_a_gene_without_estimates_is_kept_and_calls_nothing():
    rng = np.random.default_rng(1)
    betahat, se = rng.normal(size=(30, 3)), np.full((30, 3), 0.3)
    betahat[4] = np.nan
    fitted = fit_mash(betahat, se, covariances="canonical")
    assert (fitted.lfsr[4] == 1).all() and np.isnan(fitted.mean[4]).all() and fitted.log_likelihoods[4] == pytest.approx(0)
    others = fit_mash(np.delete(betahat, 4, 0), np.delete(se, 4, 0), covariances="canonical")
    np.testing.assert_allclose(np.delete(fitted.mean, 4, 0), others.mean, atol=1e-9)


def test_one_condition_is_adaptive_shrinkage():
    """Against a direct evaluation over the mixture of normals."""
    rng = np.random.default_rng(5)
    b, s = np.where(rng.random(300) < 0.3, rng.normal(0, 1, 300), 0)[:, None] + rng.normal(0, 0.2, (300, 1)), np.full((300, 1), 0.2)
    fitted = fit_mash(b, s)
    variances = np.append(0, fitted.prior.grid**2)
    joint = fitted.weights * np.exp(-0.5 * b**2 / (variances + 0.04)) / np.sqrt(variances + 0.04)
    expected = (joint * (variances / (variances + 0.04) * b)).sum(1) / joint.sum(1)
    np.testing.assert_allclose(fitted.mean[:, 0], expected, atol=1e-10)


def test_draws_have_the_posteriors_moments():
    """With 4,000 draws, the largest of 60 standardised differences of means exceeds 4.5 in one run of 2,500."""
    rng = np.random.default_rng(2)
    betahat, se = rng.normal(0, 1, (20, 3)), np.full((20, 3), 0.5)
    fitted = fit_mash(betahat, se, covariances="canonical")
    draws = fitted.sample(4000, seed=1)
    error = fitted.sd / np.sqrt(4000)
    assert np.abs((draws.mean(0) - fitted.mean) / error).max() < 4.5
    np.testing.assert_allclose(draws.std(0), fitted.sd, rtol=0.12)
    np.testing.assert_array_equal(draws, fitted.sample(4000, seed=1))


@pytest.mark.parametrize("counts", [[3.0], [3.0, 0.0, 0.5, 20.0, 0.02]], ids=["null", "several"])
def test_weights_are_optimal_by_slow_em(counts, monkeypatch):
    rng = np.random.default_rng(7)
    ratios, counts = rng.normal(0, 2, (80, 15)), np.append(counts, np.zeros(15 - len(counts)))
    weights, gap = fit_weights(ratios, counts)
    likelihood, pi = np.exp(ratios), np.full(15, 1 / 15)
    for _ in range(60_000):
        pi *= (1 / (likelihood @ pi)) @ likelihood
        pi += counts
        pi /= pi.sum()

    def value(p):
        return np.log(likelihood @ p).sum() + counts[counts > 0] @ np.log(p[counts > 0])

    assert gap < 1e-6 and value(weights) >= value(pi) - 1e-9
    np.testing.assert_allclose(weights, pi, atol=1e-3)
    for name in ("EM_STEPS", "NEWTON_STEPS", "MAX_ROUNDS"):
        monkeypatch.setattr(f"hierarchy.mash.mixture.{name}", int(name == "MAX_ROUNDS"))
    rough, gap = fit_weights(ratios, counts)
    slope = (1 / (likelihood @ rough)) @ likelihood + counts / rough
    assert value(weights) - value(rough) <= gap == pytest.approx(slope.max() - 80 - counts.sum())


def test_a_gene_whose_components_are_cut_from_the_start_gets_them_back():
    """Ten genes that only components of small weight explain, each many times better than the others."""
    rng = np.random.default_rng(3)
    ratios = np.zeros((400, 301))
    ratios[:, 1:] = rng.normal(-12, 1, (400, 300))
    for gene in range(10):
        ratios[gene, 1 + 30 * gene : 31 + 30 * gene] = rng.normal(400, 0.1, 30)
    weights, gap = fit_weights(ratios, np.append(9.0, np.zeros(300)))
    assert gap < 1e-5 and all(weights[1 + 30 * gene : 31 + 30 * gene].sum() == pytest.approx(1 / 409, rel=0.1) for gene in range(10))


def test_temporal_covariances_raise_the_likelihood_of_late_effects():
    rng = np.random.default_rng(11)
    late = np.where(np.arange(400)[:, None] < 80, rng.normal(0, 1, (400, 1)), 0) * np.array([0, 0, 1, 1])
    betahat, se = late + rng.normal(0, 0.3, (400, 4)), np.full((400, 4), 0.3)
    without = fit_mash(betahat, se, covariances=canonical(4))
    with_days = fit_mash(betahat, se, covariances=canonical(4) | temporal(4))
    assert with_days.covariance_weights["onset_2"] > 0.05 and with_days.log_likelihood > without.log_likelihood + 20


def test_few_sign_errors_among_calls():
    """Of calls at lfsr < 0.05 at most 5 % are null or of the wrong sign: with 200 calls, 10 expected; more than 20 in one run of 1,000."""
    rng = np.random.default_rng(13)
    active = np.arange(1000) < 150
    effects = np.where(active[:, None], rng.normal(0, 0.5, (1000, 1)) + rng.normal(0, 0.2, (1000, 4)), 0)
    se = rng.uniform(0.1, 0.3, (1000, 4))
    fitted = fit_mash(effects + rng.normal(size=(1000, 4)) * se, se)
    called = fitted.lfsr < 0.05
    wrong = called & (np.sign(fitted.mean) != np.sign(effects))
    assert called.sum() > 200 and wrong.sum() <= 0.05 * called.sum()


def test_extreme_deconvolution_finds_a_covariance():
    rng = np.random.default_rng(17)
    U = np.array([[1.0, 0.8], [0.8, 1.0]])
    error = rng.uniform(0.05, 0.3, 2000)[:, None, None] * np.eye(2)
    b = rng.multivariate_normal([0, 0], U, 2000) + np.sqrt(error.diagonal(axis1=1, axis2=2)) * rng.normal(size=(2000, 2))
    np.testing.assert_allclose(deconvolve(b, error, {"one": np.eye(2)})["one"], U, atol=0.12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"se": (2, 1, 0.0)}, "row 2, column 1: 0"),
        ({"se": (2, 1, np.inf)}, "row 2, column 1: inf"),
        ({"betahat": (3, 0, np.inf)}, "row 3, column 0: inf"),
        ({"V": np.ones((3, 3))}, "not positive definite"),
        ({"V": np.diag([1.0, 2.0, 1.0])}, "ones on the diagonal"),
        ({"V": np.eye(2)}, "V has shape (2, 2)"),
        ({"covariances": {"a": np.eye(2)}}, "'a' has shape (2, 2)"),
        ({"covariances": {"a": -np.eye(3)}}, "'a' is not positive semi-definite"),
        ({"covariances": "pca"}, "choose 'auto'"),
        ({"grid": np.array([0.0, 1.0])}, "positive, finite scales"),
        ({"weights": np.ones(3)}, "weights has shape (3,)"),
        ({"null_weight": 0.5}, "at least 1"),
        ({"n_contrasts": 2}, "n_contrasts is 2"),
    ],
)
def test_bad_input(change, words):
    given = {"betahat": np.random.default_rng(0).normal(size=(20, 3)), "se": np.full((20, 3), 0.5), "covariances": "canonical"}
    for name, value in change.items():
        if isinstance(value, tuple):
            given[name][value[:2]] = value[2]
        else:
            given[name] = value
    with pytest.raises(InputError) as error:
        fit_mash(given.pop("betahat"), given.pop("se"), **given)
    assert words in str(error.value)


def test_a_singular_correlation_names_its_gene():
    V = np.repeat(np.eye(3)[None], 20, 0)
    V[7] = 1.0
    with pytest.raises(InputError, match=r"for row 7 \(smallest"):
        mash_data(np.zeros((20, 3)), np.ones((20, 3)), V)
    with pytest.raises(InputError, match=r"for row 7 \(GENE7\) \(smallest"):
        fit_mash(np.zeros((20, 3)), np.ones((20, 3)), V=V, names=np.array([f"GENE{i}" for i in range(20)], dtype=object))


def test_too_few_strong_genes_are_reported():
    rng = np.random.default_rng(1)
    with pytest.warns(ScreenWarning, match=r"0 genes have a clear effect, too few to learn covariances from \(at least 20\)"):
        fitted = fit_mash(rng.normal(size=(50, 3)), np.ones((50, 3)))
    assert "random_walk" in fitted.prior.names and not any(name.startswith("ed_") for name in fitted.prior.names)


def test_with_few_genes_only_canonical_covariances_are_used():
    rng = np.random.default_rng(1)
    with pytest.warns(ScreenWarning, match=r"19 genes are too few to learn covariances from \(at least 20\): the canonical ones are used alone"):
        fitted = fit_mash(rng.normal(size=(19, 3)), np.ones((19, 3)))
    assert set(fitted.prior.names) == set(canonical(3))


def test_likelihood_ratios_without_underflow():
    """An effect of 200 standard errors keeps its likelihood and its posterior."""
    data = mash_data(np.array([[200.0, 200.0]]), np.ones((1, 2)))
    prior = Prior.of({"equal_effects": np.ones((2, 2))}, np.array([100.0]))
    expected = multivariate_normal([0, 0], np.eye(2) + 1e4).logpdf([200, 200]) - multivariate_normal([0, 0], np.eye(2)).logpdf([200, 200])
    assert log_likelihood_ratios(data, prior)[0, 1] == pytest.approx(expected, rel=1e-12)


def test_nothing_but_its_own_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_mash(np.random.default_rng(1).normal(size=(100, 3)) * 3, np.ones((100, 3)), covariances="canonical").sample(5, seed=1)
