"""What mash is given: estimates of each gene in several conditions, with the covariance of their errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from data_prep.errors import InputError, first_few

NULL_Z = 2.0  # |z| below which an estimate serves to estimate the correlation of errors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MashData:
    """Estimates b̂ ~ N(b, C) of each gene, C the covariance of its errors, kept as precisions so that a missing condition is one without information.

    Attributes
    ----------
    betahat
        Estimates; 0 where missing.
    se
        Standard errors; 1 where missing.
    observed
        Which estimates there are.
    precision
        C⁻¹ of each gene on its observed conditions, with zero rows and columns where a condition is missing.
    score
        C⁻¹ b̂ of each gene.
    log_null
        log N(b̂; 0, C) of each gene on its observed conditions.
    """

    betahat: Float[np.ndarray, "genes conditions"]
    se: Float[np.ndarray, "genes conditions"]
    observed: Bool[np.ndarray, "genes conditions"]
    precision: Float[np.ndarray, "genes conditions conditions"]
    score: Float[np.ndarray, "genes conditions"]
    log_null: Float[np.ndarray, " genes"]

    @property
    def informative(self) -> Bool[np.ndarray, " genes"]:
        """The genes with an estimate in at least one condition."""
        return np.asarray(self.observed.any(1))

    def of(self, genes: slice) -> "MashData":
        """A slice of the genes."""
        return MashData(**{name: getattr(self, name)[genes] for name in self.__slots__})


def mash_data(
    betahat: Shaped[np.ndarray, "..."],
    se: Shaped[np.ndarray, "..."],
    V: Shaped[np.ndarray, "..."] | None = None,
    names: Shaped[np.ndarray, " genes"] | None = None,
) -> MashData:
    """Check the estimates and invert the covariances of their errors, C = diag(se) V diag(se).

    Parameters
    ----------
    betahat
        Estimates; NaN where missing.
    se
        Their standard errors; NaN where missing.
    V
        Correlation of the errors, one for all genes or one for each; the identity by default.
    names
        Names of the genes, for messages; by default their rows.

    Raises
    ------
    InputError
        On shapes that differ, standard errors that are not positive and finite, infinite estimates, and a V that is not a correlation matrix or not positive
        definite, with the first genes concerned.
    """
    betahat, se = np.asarray(betahat, np.float64), np.asarray(se, np.float64)
    if betahat.ndim != 2 or betahat.shape != se.shape or not betahat.size:
        raise InputError(f"betahat has shape {betahat.shape} and se {se.shape}; both must be genes × conditions.", "betahat", "se")
    observed = ~np.isnan(betahat) & ~np.isnan(se)
    named = [f"row {g}" for g in range(len(betahat))] if names is None else [f"row {g} ({name})" for g, name in enumerate(names)]
    _check_values(betahat, se, observed, named)
    betahat, se = np.where(observed, betahat, 0.0), np.where(observed, se, 1.0)
    correlation = _checked_correlation(V, betahat.shape, observed, named)
    precision, log_det = _invert(correlation, observed, named)
    precision = precision / (se[:, :, None] * se[:, None, :])
    log_det = log_det + 2 * np.log(se).sum(1)
    score = np.einsum("gij,gj->gi", precision, betahat)
    log_null = -0.5 * (observed.sum(1) * np.log(2 * np.pi) + log_det + (score * betahat).sum(1))
    return MashData(betahat=betahat, se=se, observed=observed, precision=precision, score=score, log_null=log_null)


def null_correlation(betahat: Float[np.ndarray, "genes conditions"], se: Float[np.ndarray, "genes conditions"]) -> Float[np.ndarray, "conditions conditions"]:
    """Correlation of the errors from genes without a clear effect: of the z-scores of genes whose `|z|` is below 2 in every condition.

    As `estimate_null_correlation_simple` of mashr (Urbut et al. 2019). The identity where fewer genes than twice the number of conditions qualify.

    Parameters
    ----------
    betahat
        Estimates, (genes, conditions).
    se
        Their standard errors.

    Returns
    -------
    numpy.ndarray
        For the argument V of `fit_mash`, (conditions, conditions).

    Examples
    --------
    >>> import numpy as np
    >>> from hierarchy import null_correlation
    >>> errors = np.random.default_rng(1).multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 2000)
    >>> null_correlation(errors, np.ones((2000, 2))).shape
    (2, 2)
    """
    z = betahat / se
    quiet = z[(np.abs(z) < NULL_Z).all(1)]
    if len(quiet) < 2 * z.shape[1]:
        return np.eye(z.shape[1])
    return np.atleast_2d(np.corrcoef(quiet, rowvar=False))


def _check_values(betahat: np.ndarray, se: np.ndarray, observed: np.ndarray, named: Sequence[str]) -> None:
    for name, bad, must in (
        ("se", observed & ~((se > 0) & np.isfinite(se)), "positive and finite"),
        ("betahat", observed & ~np.isfinite(betahat), "finite"),
    ):
        if bad.any():
            values = {"se": se, "betahat": betahat}[name]
            places = [f"{named[g]}, column {d}: {values[g, d]:g}" for g, d in np.argwhere(bad)[:5]]
            raise InputError(f"{name} must be {must}, or NaN where missing; {int(bad.sum())} entries are not ({'; '.join(places)}).", name)


def _checked_correlation(given: Shaped[np.ndarray, "..."] | None, shape: tuple[int, ...], observed: np.ndarray, named: Sequence[str]) -> np.ndarray:
    """V as (1 or genes, conditions, conditions), finite where it is needed."""
    n_genes, n = shape
    if given is None:
        return np.eye(n)[None]
    V = np.asarray(given, np.float64)
    if V.shape not in ((n, n), (n_genes, n, n)):
        raise InputError(f"V has shape {V.shape}; it must be ({n}, {n}), or ({n_genes}, {n}, {n}) with one matrix a gene.", "V")
    V = V if V.ndim == 3 else V[None]
    seen = observed if len(V) > 1 else np.asarray(observed.any(0, keepdims=True))
    needed = seen[:, :, None] & seen[:, None, :]
    V = np.where(needed, V, np.eye(n))
    uneven = np.abs(V - V.transpose(0, 2, 1)).max((1, 2)) > 1e-8
    not_one = np.abs(V.diagonal(axis1=1, axis2=2) - 1).max(1) > 1e-6
    wrong = np.asarray(~np.isfinite(V).all((1, 2)) | uneven | not_one)
    rows = np.flatnonzero(wrong)
    if rows.size:
        raise InputError(f"V must be symmetric with ones on the diagonal; it is not for {first_few(named[int(i)] for i in rows)}.", "V")
    return V


def _invert(correlation: np.ndarray, observed: np.ndarray, named: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of each gene's correlation on its observed conditions, padded with zeros, and its log determinant; one factorisation a pattern of
    missing conditions where V is common."""
    n_genes, n = observed.shape
    patterns, which = np.unique(observed, axis=0, return_inverse=True)
    inverse, log_det = np.zeros((n_genes, n, n)), np.zeros(n_genes)
    for k, seen in enumerate(patterns):
        at = np.flatnonzero(which.ravel() == k)
        own = np.flatnonzero(seen)
        if own.size == 0:
            continue
        part = correlation[at if len(correlation) > 1 else [0]][:, own[:, None], own]
        values = np.linalg.eigvalsh(part)
        singular = values[:, 0] <= 1e-10
        if singular.any():
            rows = at[singular] if len(part) > 1 else at[:1]
            raise InputError(f"V is not positive definite for {first_few(named[int(i)] for i in rows)} (smallest eigenvalue {values[:, 0].min():.2g}).", "V")
        inverse[at[:, None, None], own[:, None], own] = np.linalg.inv(part)
        log_det[at] = np.log(values).sum(1)
    return inverse, log_det
