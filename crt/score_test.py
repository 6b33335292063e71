"""The test without draws: a batch of units in, their p-values and effects with errors out.

T_k = Σ_i r_ik (x_i − p_i), with r the residuals of the outcome or of its normal scores, is linear in the treatment, so its null distribution given the
covariates and the outcomes is known (`crt.tails`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from crt.kernels import cumulants as _kernels
from crt.propensity import probability
from crt.pvalues import Side
from crt.sampling.strata import Strata
from crt.scores import Scores, Statistic, mean_scores, normal_scores
from crt.tails.cumulants import bernoulli_cumulants, permutation_cumulants, product
from crt.tails.saddlepoint import BernoulliNull, Cumulants, LinearNull, PermutationNull, ScorePvalues, cauchy_combination, score_pvalues

UNITS = 16  # units of a product
BLOCK = 1024  # cells of a block of strata
_CI = float(ndtri(0.975))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreProblem:
    """The cells that units are compared on, with the outcome scores of the statistic.

    Attributes
    ----------
    C
        The design, float32 (cells, p), intercept first.
    parts
        Outcome scores: those that are tested, and last the mean's, from which effects come.
    statistic
        "mean", "normal_scores" or "cauchy".
    coef
        Coefficients of all parts side by side, float32 (p, columns).
    inverse
        1/scale of all parts, float32 (columns,).
    largest
        The largest |r| of all parts, (columns,).
    """

    C: np.ndarray
    parts: tuple[Scores, ...]
    statistic: Statistic
    coef: np.ndarray
    inverse: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, C: Float[np.ndarray, "cells covariates"], Y: Float[np.ndarray, "cells programs"], statistic: Statistic) -> "ScoreProblem":
        """Compute the scores, once for all units that live on these cells."""
        mean = mean_scores(C, Y)
        parts = (mean,) if statistic == "mean" else (normal_scores(C, Y), mean)
        coef = np.hstack([s.coef for s in parts]).astype(np.float32)
        inverse, largest = np.concatenate([1 / s.scale for s in parts]).astype(np.float32), np.zeros(coef.shape[1])
        problem = cls(C=C, parts=parts, statistic=statistic, coef=coef, inverse=inverse, largest=largest)
        for first in range(0, len(C), BLOCK):
            np.maximum(largest, np.abs(problem.block(slice(first, first + BLOCK))).max(0), out=largest)
        largest.flags.writeable = False
        return problem

    @property
    def n_programs(self) -> int:
        """K."""
        return self.parts[0].scale.size

    @property
    def n_tested(self) -> int:
        """Columns that are tested: all parts but the mean's where that is there for the effects only."""
        return self.n_programs * (len(self.parts) - (self.statistic == "normal_scores"))

    def block(self, cells: slice) -> np.ndarray:
        """r of a block of cells and all parts, float32."""
        values = [s.values[cells] for s in self.parts]
        out = (values[0] if len(values) == 1 else np.hstack(values)) * self.inverse
        out -= self.C[cells] @ self.coef
        return out

    def columns(self, part: int, cells: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function of program indices that gives the residuals of some cells in float64, (programs, cells)."""
        s = self.parts[part]

        def residuals(programs: np.ndarray) -> np.ndarray:
            out = np.empty((programs.size, cells.size))
            _kernels.residual_columns(s.values, self.C, s.coef, s.scale, programs, cells, out)
            return out

        return residuals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreResult:
    """What the test without draws gives for one unit; arrays are (K,), NaN where undefined.

    Attributes
    ----------
    z
        T over its null SD; of the normal scores under "cauchy".
    log10_p
        log10 of p, with no floor.
    se
        √κ₂ of the mean's T over the denominator of β: the SE of β, in the outcome's units.
    ci_low, ci_high
        95 % interval of the effect, β less its null mean ∓ 1.96 SE: the values that the test of the mean does not reject.
    n_saddlepoint
        Programs whose saddlepoint equation was solved.
    unsolved
        Where it has no solution, bool (K,): there log10_p is NaN.
    """

    z: np.ndarray
    log10_p: np.ndarray
    se: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    n_saddlepoint: int
    unsolved: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreMoments:
    """T and its null moments of one unit, all parts side by side, (columns,) each: Σ r over treated cells, its null mean, and the cumulants."""

    total: np.ndarray
    mean: np.ndarray
    cumulants: Cumulants


def bernoulli_moments(
    problem: ScoreProblem,
    columns: Float[np.ndarray, "covariates cells"],
    beta: Float[np.ndarray, "units covariates"],
    treated: Sequence[np.ndarray],
    *,
    at_once: int = UNITS,
) -> list[ScoreMoments]:
    """Moments of a batch of units, treatments independent with the probabilities of their logistic coefficients.

    Parameters
    ----------
    problem
        The cells that all of them are compared on.
    columns
        Its design, transposed.
    beta
        Logistic coefficients.
    treated
        Positions of each unit's treated cells.
    at_once
        Units of a product.
    """
    out: list[ScoreMoments] = []
    for first in range(0, len(treated), at_once):
        here = treated[first : first + at_once]
        logits = partial(_probabilities, beta[first : first + at_once].astype(np.float32), columns)
        mean, cumulants = bernoulli_cumulants(problem.block, logits, len(problem.C), n_tested=problem.n_tested)
        out += [ScoreMoments(total=_total(problem, t), mean=mean[i], cumulants=Cumulants(*(c[i] for c in cumulants))) for i, t in enumerate(here)]
    return out


def permutation_moments(problem: ScoreProblem, strata: Sequence[Strata], treated: Sequence[np.ndarray]) -> list[ScoreMoments]:
    """Moments of a batch of units, treatments permuted within strata; the strata's cells are positions among the problem's."""
    n, width = len(problem.C), problem.inverse.size
    ids = np.empty((len(strata), n), np.int32)
    for row, s in zip(ids, strata, strict=True):
        row[s.cells] = np.repeat(np.arange(s.n_strata, dtype=np.int32), np.diff(s.offsets))
    sums = [np.zeros((s.n_strata, 4, width)) for s in strata]
    for first in range(0, n, BLOCK):
        cells = slice(first, min(first + BLOCK, n))
        r = problem.block(cells)
        for row, one in zip(ids, sums, strict=True):
            _kernels.add_powers(r, row[cells], one)
    out = []
    for s, one, t in zip(strata, sums, treated, strict=True):
        mean, cumulants = permutation_cumulants(one, np.diff(s.offsets), s.n_treated)
        out.append(ScoreMoments(total=_total(problem, t), mean=mean, cumulants=cumulants))
    return out


def _probabilities(beta: np.ndarray, columns: np.ndarray, cells: slice) -> np.ndarray:
    """P(treated) of a block of cells for several coefficient vectors, in float32: 1/(1 + e^{−Cβ})."""
    return np.float32(1) / (np.float32(1) + np.exp(np.minimum(-product(beta, columns[:, cells]), np.float32(80))))


def _total(problem: ScoreProblem, treated: np.ndarray) -> np.ndarray:
    return np.concatenate([s.total(problem.C, treated)[1] for s in problem.parts])


def bernoulli_null(
    problem: ScoreProblem, columns: Float[np.ndarray, "covariates cells"], beta: Float[np.ndarray, " covariates"]
) -> Callable[[int], LinearNull]:
    """The null of each part of one unit, treatments independent."""
    cells = np.arange(len(problem.C))
    return lambda part: BernoulliNull(lambda: probability(columns, beta), problem.columns(part, cells))


def permutation_null(problem: ScoreProblem, strata: Strata) -> Callable[[int], LinearNull]:
    """The null of each part of one unit, treatments permuted within strata."""
    return lambda part: PermutationNull(strata.offsets, strata.n_treated, problem.columns(part, strata.cells))


def score_result(
    problem: ScoreProblem,
    moments: ScoreMoments,
    null: Callable[[int], LinearNull],
    *,
    beta: Float[np.ndarray, " programs"],
    denominator: float,
    side: Side = "both",
) -> ScoreResult:
    """p-values and effects of one unit from its moments.

    Parameters
    ----------
    beta
        The OLS coefficients of the treatment.
    denominator
        Theirs, n − u'Au.
    """
    K = problem.n_programs
    t = moments.total - moments.mean
    found: list[ScorePvalues] = []
    for part in range(problem.n_tested // K):
        own = slice(part * K, (part + 1) * K)
        found.append(score_pvalues(t[own], Cumulants(*(c[own] for c in moments.cumulants)), null(part), largest=problem.largest[own], side=side))
    log_p = found[0].log_p if len(found) == 1 else cauchy_combination(np.stack([f.log_p for f in found]))
    scale, last = problem.parts[-1].scale / denominator, slice(-K, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = t[:K] / moments.cumulants.sd[:K]
        se = moments.cumulants.sd[last] * scale
    centre = beta - moments.mean[last] * scale
    return ScoreResult(
        z=z,
        log10_p=log_p / np.log(10),
        se=se,
        ci_low=centre - _CI * se,
        ci_high=centre + _CI * se,
        n_saddlepoint=int(sum(f.by_saddlepoint.sum() for f in found)),
        unsolved=np.logical_or.reduce([f.unsolved for f in found]),
    )
