"""The penalty that prefers independent conditions: its weights, its strength, and what it does to calls on small screens."""

import numpy as np
import pytest

from hierarchy.mash.covariances import canonical, pairs
from hierarchy.mash.data import mash_data
from hierarchy.mash.fit import fit_mash
from hierarchy.mash.independence import STRENGTHS, independent_weights
from hierarchy.mash.mixture import Prior

N = 300


def made(seed, *, constant=False, se=0.27):
    """Effects of 0.2 to 1.0 in a tenth of the genes: the same on all days, or on each day in genes of its own; and their estimates."""
    rng = np.random.default_rng(seed)
    active = np.repeat(rng.random((N, 1)) < 0.1, 4, 1) if constant else rng.random((N, 4)) < 0.1
    size = rng.uniform(0.2, 1.0, (N, 4)) * rng.choice([-1, 1], (N, 4))
    effects = np.where(active, size[:, :1] if constant else size, 0.0)
    errors = rng.uniform(0.8 * se, 1.2 * se, (N, 4))
    return effects, effects + rng.normal(size=(N, 4)) * errors, errors


def test_weights_follow_the_share_of_active_days():
    """About 120 of 1,200 gene-days are active: an error of 25 % of a weight is four standard errors of the share."""
    _, betahat, se = made(1, se=0.02)
    prior = Prior.of(canonical(4) | pairs(4), np.array([0.1, 0.3, 0.6]))
    q = independent_weights(mash_data(betahat, se), prior, 0.0)
    by_name = dict(zip(prior.names, q[1:].reshape(3, -1).sum(0), strict=True))
    expected = {0: 0.9**4, 1: 0.9**3 * 0.1, 2: 0.9**2 * 0.1**2}
    assert q.sum() == pytest.approx(1) and q[0] == pytest.approx(expected[0], rel=0.1)
    assert by_name["singleton_2"] == pytest.approx(expected[1], rel=0.25) and by_name["pair_0_3"] == pytest.approx(expected[2], rel=0.5)
    assert by_name["equal_effects"] == by_name["simple_het_1"] == 0


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning")  # too few strong genes
def test_sharing_between_days_is_learned_and_independence_too(seed):
    apart, together = (fit_mash(*made(seed, constant=constant)[1:]).penalty[1:].sum() for constant in (False, True))
    assert apart > 0.5 * STRENGTHS[-1] * N and together <= STRENGTHS[1] * N


def test_covariances_that_are_given_have_no_such_penalty():
    _, betahat, se = made(1)
    for covariances in ("canonical", canonical(4)):
        penalty = fit_mash(betahat, se, covariances=covariances).penalty
        assert penalty[0] == 9 and not penalty[1:].any()


@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning")
def test_few_wrong_calls_where_the_estimates_say_little():
    """About 300 calls in 10 screens, of which 3 are expected to be wrong; more than 6 in one run of 30. Without the penalty 10 are wrong."""
    called = wrong = 0
    for seed in range(10):
        effects, betahat, se = made(seed, se=0.22)
        fitted = fit_mash(betahat, se)
        calls = fitted.lfsr < 0.05
        called += calls.sum()
        wrong += (calls & (np.sign(fitted.mean) != np.sign(effects))).sum()
    assert called > 250 and wrong <= 6, (called, wrong)
