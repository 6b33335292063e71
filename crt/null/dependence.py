"""How many independent tests the tests of NTC groups are worth: groups of different partitions share guides, programs are correlated.

Given the covariates, the z scores of group a at program k and of group b at program l have correlation r = ρ_ab P_kl: ρ_ab is the correlation of the two
treatments over cells, P_kl that of the two outcome scores, both after regression on the covariates. (The statistic is Σ_i r_ik (x_ia − p_ia), and only the
residuals r are random.) Expanded in Hermite polynomials, functions f of two standard normal variables with correlation r have covariance Σ_d a_d² r^d/d!, with
a_d = E[f(z) H_d(z)]. So the variance of a mean of f over all tests is that of a mean over

    n_f = Σ_d a_d²/d! / Σ_d (a_d²/d!) mean(r^d)

independent tests, where mean(r^d) = mean(ρ^d) mean(P^d) over all pairs, those of a test with itself included. For f = z², only d = 2 counts, and the mean of z²
is distributed as χ²/n with n = 1/mean(r²) degrees of freedom (Satterthwaite 1946). For p ≤ level, f is an indicator; its higher degrees decrease faster with r,
so small p-values of overlapping groups are nearly independent. Many partitions of few guides thus do not count as many groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy.polynomial.hermite_e import hermeval
from scipy.sparse import csc_matrix
from scipy.stats import norm

from crt.inputs import CRTInputs
from crt.linear.scores import sampled_scores
from crt.sampling.methods import Sampler, StratifiedPermutation
from crt.sampling.raw_columns import burden_of
from crt.sampling.strata import compute_bins
from crt.settings import Statistic

MOST_CELLS = 50_000
DEGREES = 12  # of the Hermite polynomials; the share of higher degrees is counted with the last


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dependence:
    """Correlations of the z scores of tests.

    Attributes
    ----------
    units
        Correlations of the units' treatments given the covariates, (units, units).
    programs
        Correlations of the outcome scores given the covariates, (programs, programs).
    """

    units: Float64[np.ndarray, "units units"]
    programs: Float64[np.ndarray, "programs programs"]

    def of(self, units: Bool[np.ndarray, " units"], programs: Bool[np.ndarray, " programs"]) -> "Dependence":
        """The correlations of some units and programs."""
        return Dependence(units=self.units[np.ix_(units, units)], programs=self.programs[np.ix_(programs, programs)])

    def independent_units(self) -> float:
        """Number of independent units for the mean of z² of one program."""
        return 1 / float(np.mean(self.units**2))

    def squares(self) -> float:
        """Number of independent tests for the mean of z²: its degrees of freedom."""
        return self.independent_units() / float(np.mean(self.programs**2))

    def indicators(self, levels: Sequence[float], *, two_sided: bool) -> dict[float, float]:
        """Number of independent tests for the rate of p ≤ level, by level.

        Parameters
        ----------
        levels
            Levels of the p-values.
        two_sided
            Whether the tests are two-sided.
        """
        means = [a * b for a, b in zip(_power_means(self.units), _power_means(self.programs), strict=True)]
        least = 1 / (len(self.units) * len(self.programs))
        return {level: float(1 / max(np.dot(_hermite_shares(level, two_sided=two_sided), means), least)) for level in levels}


def _power_means(correlations: Float64[np.ndarray, "n n"]) -> list[float]:
    """Means of the powers 1 to `DEGREES` of all correlations."""
    power, means = correlations.copy(), [float(correlations.mean())]
    for _ in range(1, DEGREES):
        power *= correlations
        means.append(float(power.mean()))
    return means


def _hermite_shares(level: float, *, two_sided: bool) -> list[float]:
    """Shares of the Hermite polynomials of degrees 1 to `DEGREES` in the variance of an indicator of p ≤ level."""
    c = float(norm.isf(level / 2 if two_sided else level))
    shares = []
    for d in range(1, DEGREES + 1):
        a = 0.0 if two_sided and d % 2 else (2 if two_sided else 1) * hermeval(c, [0.0] * (d - 1) + [1.0]) * norm.pdf(c)
        shares.append(a**2 / factorial(d) / (level * (1 - level)))
    shares[-1] += max(0.0, 1 - sum(shares))
    return shares


def treatment_correlations(sets: Sequence[Int[np.ndarray, " _"]], inputs: CRTInputs, sampler: Sampler) -> Float64[np.ndarray, "units units"]:
    """Correlations of treatments over the cells that are compared, after regression on the covariates and, with burden strata, on the bins of the burden.

    Where NTC cells are the controls, groups of one partition are compared with one another, so their correlation is negative: −1 for two groups.

    Parameters
    ----------
    sets
        Treated cells of each unit.
    inputs
        Screen.
    sampler
        Sampler, which may have burden strata.
    """
    n, N = inputs.all_cells.size, len(sets)
    starts = np.concatenate([[0], np.cumsum([s.size for s in sets])])
    x = csc_matrix((np.ones(starts[-1]), np.concatenate(sets) if N else np.empty(0, np.int64), starts), shape=(n, N))
    C = inputs.columns.T.astype(np.float64)
    if isinstance(sampler, StratifiedPermutation) and sampler.burden_key is not None:
        burden = burden_of(inputs, sampler.burden_key)
        bins, n_bins, _ = compute_bins(burden, sampler.n_burden_bins, sampler.burden_bin_method, sampler.burden_clip_quantiles)
        C = np.hstack([C, bins[:, None] == np.arange(1, n_bins)])
    compared = C if inputs.control_group == "complement" else C[np.union1d(inputs.ntc_cells, x.indices)]
    totals = x.T @ C
    return _scaled((x.T @ x).toarray() - totals @ np.linalg.pinv(compared.T @ compared, hermitian=True) @ totals.T)


def outcome_correlations(inputs: CRTInputs, statistic: Statistic) -> Float64[np.ndarray, "programs programs"]:
    """Correlations of the outcome scores that are tested, over at most `MOST_CELLS` control cells; of two kinds of scores ("cauchy") the larger of the two.

    Parameters
    ----------
    inputs
        Screen.
    statistic
        "mean", "normal_scores" or "cauchy".
    """
    cells = inputs.all_cells if inputs.control_group == "complement" else inputs.ntc_cells
    cells = cells[:: -(-cells.size // MOST_CELLS)]
    kinds = [normal for normal in (False, True) if statistic != ("mean" if normal else "normal_scores")]
    found = [sampled_scores(inputs, cells, normal=normal)[1].astype(np.float64) for normal in kinds]
    first, last = (_scaled(r.T @ r) for r in (found[0], found[-1]))
    return np.where(np.abs(first) >= np.abs(last), first, last)


def _scaled(covariance: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n n"]:
    """Correlations; without variance, that of a unit with itself is 1, with others 0."""
    variance = covariance.diagonal()
    sd = np.sqrt(np.where(variance > 1e-9 * max(1.0, float(variance.max(initial=0.0))), variance, np.inf))
    out = np.clip(covariance / np.outer(sd, sd), -1.0, 1.0)
    np.fill_diagonal(out, 1.0)
    return out
