"""From estimates of genes and guides over days to a ranked table of hits: days, signs, patterns, and how far each hit depends on a single guide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from data_prep.errors import warn, whole_number
from data_prep.memory import require_memory
from hierarchy.mash.fit import MashFit, fit_mash
from hierarchy.mash.patterns import PATTERNS, pattern_probabilities

CALL_LFSR = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HitEstimates:
    """Likelihood-type estimates of genes and guides over days in one contrast, with the covariances of their errors; NaN without cells.

    `hit_estimates` makes it from a fit.

    Attributes
    ----------
    contrast
        Name of the contrast, "A:B".
    days
        Labels of the days, (D,), in time order.
    genes
        Names of the genes, (L,).
    betahat
        Estimates by gene, (L, D).
    covariance
        Covariances of their errors, (L, D, D).
    cells
        Number of cells that carry a guide of each gene on each day, (L, D).
    guides
        Names of the guides, (G,).
    gene_of_guide
        Position of each guide's gene, (G,).
    guide_betahat
        Estimates by guide, (G, D).
    guide_covariance
        Covariances of their errors, (G, D, D).
    left_out
        Estimates of each guide's gene without that guide, (G, D); NaN where the gene has no other guide.
    left_out_covariance
        Covariances of their errors, (G, D, D).

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, hit_estimates
    >>> estimates = hit_estimates(fit(build_fate_data(read_screen(adata), ref_fate="EC")), "MES")
    >>> estimates.contrast, estimates.betahat.shape, estimates.left_out.shape
    ('MES:EC', (8, 2), (48, 2))
    """

    contrast: str
    days: tuple[str, ...]
    genes: Shaped[np.ndarray, " genes"]
    betahat: Float[np.ndarray, "genes days"]
    covariance: Float[np.ndarray, "genes days days"]
    cells: Int[np.ndarray, "genes days"]
    guides: Shaped[np.ndarray, " guides"]
    gene_of_guide: Int[np.ndarray, " guides"]
    guide_betahat: Float[np.ndarray, "guides days"]
    guide_covariance: Float[np.ndarray, "guides days days"]
    left_out: Float[np.ndarray, "guides days"]
    left_out_covariance: Float[np.ndarray, "guides days days"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hits:
    """Genes ranked by the evidence for an effect, with the mash fits of genes and guides. `call_hits` makes it.

    Attributes
    ----------
    estimates
        The estimates.
    genes
        mash of the genes.
    guides
        mash of the guides.
    patterns
        Posterior probability of each pattern for every gene, in the order constant, early, late, transient, sign change, inactive.
    table
        One row for each gene, strongest first: the content of hits.csv.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=8000, n_genes=40, n_days=3, effects="late"), seed=0).adata
    >>> from hierarchy import call_hits, fit, hit_estimates
    >>> hits = call_hits(hit_estimates(fit(build_fate_data(read_screen(adata), ref_fate="EC")), "MES"), covariances="canonical")
    >>> hits.table[["gene", "best_day", "pattern"]].head(2)
         gene best_day pattern
    0  GENE24       d2    late
    1  GENE19       d2    late
    """

    estimates: HitEstimates
    genes: MashFit
    guides: MashFit
    patterns: Float[np.ndarray, "genes patterns"]
    table: pd.DataFrame

    @property
    def called(self) -> pd.Series:
        """Whether each row of the table is a hit, with lfsr below 0.05 on some day."""
        return self.table["min_lfsr"] < CALL_LFSR

    def gene_table(self) -> pd.DataFrame:
        """`gene, contrast, betahat_d0.., se_d0.., mean_d0.., sd_d0.., lfsr_d0..`."""
        return pd.DataFrame({"gene": self.estimates.genes, "contrast": self.estimates.contrast} | _daywise(self.genes))

    def guide_table(self) -> pd.DataFrame:
        """`guide, gene, contrast`, and the same columns as in `gene_table`."""
        own = self.estimates
        return pd.DataFrame({"guide": own.guides, "gene": own.genes[own.gene_of_guide], "contrast": own.contrast} | _daywise(self.guides))

    def weight_table(self) -> pd.DataFrame:
        """`contrast, level, covariance, weight`: the weight of the null and of each covariance in the priors of genes and guides."""
        rows = [(level, name, w) for level, fitted in (("gene", self.genes), ("guide", self.guides)) for name, w in fitted.covariance_weights.items()]
        table = pd.DataFrame(rows, columns=["level", "covariance", "weight"])
        table.insert(0, "contrast", self.estimates.contrast)
        return table


def call_hits(estimates: HitEstimates, *, covariances: str = "auto", null_weight: float = 10.0, n_draws: int = 500, seed: int = 0) -> Hits:
    """Run mash on genes and on guides, and rank the genes.

    Parameters
    ----------
    estimates
        Estimates with their covariances, which give mash each gene's own V.
    covariances
        "auto": canonical, temporal and data-driven covariances; "mashr": canonical and data-driven; "canonical".
    null_weight
        Dirichlet penalty on the null; 10 prefers the null where the data do not decide, 1 is none.
    n_draws
        Number of posterior draws from which patterns are computed.
    seed
        Random seed of the draws.

    Returns
    -------
    Hits

    Raises
    ------
    InputError
        On estimates or errors that mash cannot use, with the genes concerned.

    Warns
    -----
    ScreenWarning
        Where there are too few genes to learn from, and for genes without any estimate.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=8000, n_genes=40, n_days=3, effects="late"), seed=0).adata
    >>> from hierarchy import call_hits, fit, hit_estimates
    >>> hits = call_hits(hit_estimates(fit(build_fate_data(read_screen(adata), ref_fate="EC")), "MES"), covariances="canonical")
    >>> hits.weight_table().shape
    (18, 4)
    """
    return call_hits_jointly([estimates], estimates.covariance, covariances=covariances, null_weight=null_weight, n_draws=n_draws, seed=seed)[0]


def call_hits_jointly(
    estimates: Sequence[HitEstimates],
    covariance: Float[np.ndarray, "genes size size"],
    *,
    covariances: str = "auto",
    null_weight: float = 10.0,
    n_draws: int = 500,
    seed: int = 0,
) -> list[Hits]:
    """`call_hits` for several contrasts of one fit whose genes are analysed jointly, so that an effect in one contrast is evidence for one in another.

    Guides are analysed contrast by contrast, and `lfsr_leave_one_guide_out` takes the prior of the joint fit but the estimates of its own contrast alone.

    Parameters
    ----------
    estimates
        Estimates in each contrast.
    covariance
        Covariances of the errors of each gene over days and contrasts, contrast by contrast, (genes, contrasts · days, contrasts · days).
    covariances
        "auto": canonical, temporal and data-driven covariances; "mashr": canonical and data-driven; "canonical".
    null_weight
        Dirichlet penalty on the null; 10 prefers the null where the data do not decide, 1 is none.
    n_draws
        Number of posterior draws from which patterns are computed.
    seed
        Random seed of the draws.

    Returns
    -------
    list of Hits
        One for each contrast.

    Raises
    ------
    InputError
        On estimates or errors that mash cannot use, with the genes concerned.

    Warns
    -----
    ScreenWarning
        Where there are too few genes to learn from, and for genes without any estimate.
    """
    n_days = len(estimates[0].days)
    require_memory(8 * whole_number("n_draws", n_draws) * n_days * len(estimates), f"{n_draws:,} draws of a gene's effects", "n_draws")
    se, V = errors_of(covariance)
    chosen: dict[str, Any] = {"covariances": covariances, "null_weight": null_weight}
    betahat = np.concatenate([own.betahat for own in estimates], 1)
    together = fit_mash(betahat, se, V=V, n_contrasts=len(estimates), names=estimates[0].genes, **chosen)
    if lost := int((~together.data.informative).sum()):
        warn(f"{lost:,} genes have no estimate on any day, because no cell carries their guides; they are listed last, with lfsr 1.")
    found = []
    for i, own in enumerate(estimates):
        genes = together.of_conditions(slice(i * n_days, (i + 1) * n_days))
        guide_se, guide_V = errors_of(own.guide_covariance)
        guides = fit_mash(own.guide_betahat, guide_se, V=guide_V, names=own.guides, **chosen)
        patterns = pattern_probabilities(genes, n_draws=n_draws, seed=seed)
        found.append(Hits(estimates=own, genes=genes, guides=guides, patterns=patterns, table=_ranked(own, genes, patterns)))
    return found


def contrast_weights(fate: str, against: str, fates: Sequence[str]) -> Float[np.ndarray, " nonref"]:
    """Weights of the non-reference fates in a contrast of two of the fates, the first of which is the reference."""
    unit = np.eye(len(fates))
    return (unit[fates.index(fate)] - unit[fates.index(against)])[1:]


def contrast_covariance(
    covariance: Float[np.ndarray, "genes size size"], weights: Float[np.ndarray, "*contrasts nonref"]
) -> Float[np.ndarray, "genes wide wide"]:
    """Covariance over the days of a contrast, or over several contrasts and days, from that over non-reference fates and days: fate by fate, contrast by
    contrast."""
    weights = np.atleast_2d(weights)
    n, (c, f) = len(covariance), weights.shape
    d = covariance.shape[1] // f
    return np.einsum("lfdhe,cf,kh->lcdke", covariance.reshape(n, f, d, f, d), weights, weights, optimize=True).reshape(n, c * d, c * d)


def errors_of(covariance: Float[np.ndarray, "units days days"]) -> tuple[Float[np.ndarray, "units days"], Float[np.ndarray, "units days days"]]:
    """Standard errors, and the correlation of the errors of each unit, NaN where there is no estimate."""
    se = np.sqrt(covariance.diagonal(axis1=1, axis2=2))
    V = covariance / (se[:, :, None] * se[:, None, :])
    return se, (V + V.transpose(0, 2, 1)) / 2


def _daywise(fitted: MashFit) -> dict[str, np.ndarray]:
    columns = {name: getattr(fitted, name) for name in ("betahat", "se", "mean", "sd", "lfsr")}
    return {f"{name}_d{d}": values[:, d] for name, values in columns.items() for d in range(values.shape[1])}


def _ranked(own: HitEstimates, genes: MashFit, patterns: np.ndarray) -> pd.DataFrame:
    """The content of hits.csv."""
    n = np.arange(len(own.genes))
    seen, found = genes.data.informative, genes.posterior
    lfsr = np.where(np.isfinite(genes.betahat), found.lfsr, 1.0)  # a day is called only where there are cells
    size = np.nan_to_num(np.abs(found.mean / np.where(found.sd > 0, found.sd, np.inf)))
    best = np.lexsort((-size, lfsr), axis=1)[:, 0]
    sign = np.sign(np.nan_to_num(found.mean[n, best]))
    least = lfsr[n, best]
    order = np.lexsort((-size[n, best], least))
    svalue = np.empty(len(n))
    svalue[order] = np.where(seen[order], np.cumsum(least[order]) / np.arange(1, len(n) + 1), 1.0)
    pattern = patterns.argmax(1)
    at_best = own.guide_betahat[np.arange(len(own.guides)), best[own.gene_of_guide]]
    agree = np.bincount(own.gene_of_guide, np.sign(np.nan_to_num(at_best)) == sign[own.gene_of_guide], len(n)) * seen
    days = np.array(own.days, dtype=object)
    columns = {
        "gene": own.genes,
        "contrast": own.contrast,
        "n_guides": np.bincount(own.gene_of_guide, minlength=len(n)),
        "n_cells": own.cells.sum(1),
        "best_day": np.where(seen, days[best], ""),
        "active_days": np.array([";".join(days[row]) for row in lfsr < CALL_LFSR], dtype=object),
        "pattern": np.where(seen, np.array(PATTERNS, dtype=object)[pattern], ""),
        "pattern_prob": np.where(seen, patterns[n, pattern], np.nan),
        "max_abs_mean": np.abs(found.mean).max(1),
        "min_lfsr": least,
        "svalue": svalue,
        "guides_agree": agree.astype(np.int64),
        "lfsr_leave_one_guide_out": np.where(seen, _left_out(own, genes, best, sign), 1.0),
    }
    shown = {"mean": found.mean, "sd": found.sd, "lfsr": found.lfsr}
    columns |= {f"{name}_d{d}": values[:, d] for name, values in shown.items() for d in range(len(days))}
    columns["reason"] = np.where(seen, "", "no cells carry its guides")
    return pd.DataFrame(columns).iloc[order].reset_index(drop=True)


def _left_out(own: HitEstimates, genes: MashFit, best: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """The largest probability, over the guides of each gene, that the sign on its best day is wrong once that guide is left out; 1 with a single guide."""
    se, V = errors_of(own.left_out_covariance)
    found = genes.posterior_of(own.left_out, se, V)
    at = np.arange(len(own.guides)), best[own.gene_of_guide]
    wrong = np.where(sign[own.gene_of_guide] < 0, found.positive_prob[at], found.negative_prob[at]) + found.zero_prob[at]
    worst = np.zeros(len(own.genes))
    np.maximum.at(worst, own.gene_of_guide, wrong.clip(0, 1))
    return worst
