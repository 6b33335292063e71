"""`Fit` → `DaywiseEffects`: likelihood-type estimates, posterior means and their errors with names, in any contrast of fates; and their quality control."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64, Shaped
from scipy.special import ndtr

from data_prep.errors import InputError, did_you_mean, first_few, warn
from hierarchy.result import Fit

OFFSET_LIMIT = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContrastEffects:
    """Effects of genes, or of guides, on the log-odds of one fate against another. `DaywiseEffects.of_genes` and `of_guides` make it.

    Attributes
    ----------
    fate
        Name of the fate.
    against
        Name of the fate that it is compared with.
    estimate
        Likelihood-type estimates, (units, D); NaN without cells.
    se
        Their standard errors, (units, D).
    mean
        Posterior means, (units, D).
    sd
        Posterior SDs, (units, D).
    cells
        Number of cells that carry the gene's guides, or the guide, on each day, (units, D).

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, summarise
    >>> own = summarise(fit(build_fate_data(read_screen(adata), ref_fate="EC"))).of_genes("MES:NEU")
    >>> own.fate, own.against, own.estimate.shape
    ('MES', 'NEU', (8, 2))
    """

    fate: str
    against: str
    estimate: Float[np.ndarray, "units days"]
    se: Float[np.ndarray, "units days"]
    mean: Float[np.ndarray, "units days"]
    sd: Float[np.ndarray, "units days"]
    cells: Int64[np.ndarray, "units days"]

    @property
    def z(self) -> Float[np.ndarray, "units days"]:
        """Posterior mean over posterior SD; NaN without cells, and 0 where an effect is exactly 0."""
        z = np.divide(self.mean, self.sd, out=np.zeros_like(self.mean), where=self.sd > 0)
        return np.where(self.cells > 0, z, np.nan)

    @property
    def lfsr(self) -> Float[np.ndarray, "units days"]:
        """Posterior probability that the effect has the other sign than its mean (local false sign rate)."""
        return ndtr(-np.abs(np.divide(self.mean, self.sd, out=np.zeros_like(self.mean), where=self.sd > 0)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DaywiseEffects:
    """Effects in log-odds against the reference fate, with the names of their axes: likelihood-type estimates and posterior moments. `summarise` makes it.

    Attributes
    ----------
    genes
        Names of the genes, (L,).
    guides
        Names of the targeting guides, (G,).
    gene_of_guide
        The gene of each guide, (G,).
    reference
        Name of the reference fate.
    fates
        Names of the non-reference fates, (F*,).
    days
        Labels of the days, (D,), in time order.
    theta_estimate
        Likelihood-type estimates of the gene effects θ, (L, F*, D); NaN without cells.
    theta_estimate_covariance
        Covariance of each gene's errors over non-reference fates and days, fate by fate, (L, F*·D, F*·D).
    beta_estimate
        Likelihood-type estimates of the guide effects β, (G, F*, D); NaN without cells.
    beta_estimate_covariance
        Covariance of each guide's errors over non-reference fates on each day, (G, F*, F*, D).
    theta_mean
        Posterior means of θ, (L, F*, D).
    theta_covariance
        Posterior covariances of θ over non-reference fates on each day, (L, F*, F*, D).
    beta_mean
        Posterior means of β = θ + δ, (G, F*, D).
    beta_covariance
        Posterior covariances of β over non-reference fates on each day, (G, F*, F*, D).
    delta_mean
        Posterior means of the guide deviations δ, (G, F*).
    delta_sd
        Posterior SDs of δ, (G, F*).
    gene_cells
        Number of cells that carry a guide of each gene on each day, (L, D).
    guide_cells
        Number of cells that carry each guide on each day, (G, D).

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit, summarise
    >>> effects = summarise(fit(data))
    >>> effects.guide_table("NEU").round(2).head(3)
          guide   gene  betahat_d0  betahat_d1  se_d0  se_d1
    0  GENE0_g1  GENE0        0.08        0.12   0.03   0.03
    1  GENE0_g2  GENE0        0.16        0.20   0.03   0.03
    2  GENE0_g3  GENE0       -0.24       -0.21   0.04   0.04
    >>> float(effects.qc_delta("NEU")["delta_mean_gene"].abs().max()) < 1e-6
    True
    """

    genes: Shaped[np.ndarray, " genes"]
    guides: Shaped[np.ndarray, " guides"]
    gene_of_guide: Shaped[np.ndarray, " guides"]
    reference: str
    fates: tuple[str, ...]
    days: tuple[str, ...]
    theta_estimate: Float[np.ndarray, "genes nonref days"]
    theta_estimate_covariance: Float[np.ndarray, "genes nonref*days nonref*days"]
    beta_estimate: Float[np.ndarray, "guides nonref days"]
    beta_estimate_covariance: Float[np.ndarray, "guides nonref nonref days"]
    theta_mean: Float[np.ndarray, "genes nonref days"]
    theta_covariance: Float[np.ndarray, "genes nonref nonref days"]
    beta_mean: Float[np.ndarray, "guides nonref days"]
    beta_covariance: Float[np.ndarray, "guides nonref nonref days"]
    delta_mean: Float[np.ndarray, "guides nonref"]
    delta_sd: Float[np.ndarray, "guides nonref"]
    gene_cells: Int64[np.ndarray, "genes days"]
    guide_cells: Int64[np.ndarray, "guides days"]

    @property
    def theta_sd(self) -> Float[np.ndarray, "genes nonref days"]:
        """Posterior SDs of θ, (L, F*, D)."""
        return _sd(self.theta_covariance)

    def with_errors_times(self, factor: float) -> "DaywiseEffects":
        """The same effects with all standard errors and posterior SDs multiplied by a factor."""
        names = ("theta_estimate_covariance", "beta_estimate_covariance", "theta_covariance", "beta_covariance")
        scaled = {name: getattr(self, name) * factor**2 for name in names}
        return replace(self, delta_sd=self.delta_sd * factor, **scaled)

    def contrast_weights(self, contrast: str) -> Float[np.ndarray, " nonref"]:
        """Weights of the non-reference fates in a contrast: "A" for fate A against the reference, "A:B" for A against B."""
        _, _, weights = self._contrast(contrast)
        return weights

    def of_genes(self, contrast: str) -> ContrastEffects:
        """The gene effects θ in a contrast, "A" (against the reference) or "A:B"."""
        n_genes, f, d = self.theta_mean.shape
        joint = self.theta_estimate_covariance.reshape(n_genes, f, d, f, d).diagonal(axis1=2, axis2=4)
        return self._effects(contrast, self.theta_estimate, joint, self.theta_mean, self.theta_covariance, self.gene_cells)

    def of_guides(self, contrast: str) -> ContrastEffects:
        """The guide effects β in a contrast, "A" (against the reference) or "A:B"."""
        return self._effects(contrast, self.beta_estimate, self.beta_estimate_covariance, self.beta_mean, self.beta_covariance, self.guide_cells)

    def gene_table(self, contrast: str) -> pd.DataFrame:
        """`gene, betahat_d0.., se_d0..`: likelihood-type estimates of θ in one contrast."""
        return pd.DataFrame({"gene": self.genes} | _estimates(self.of_genes(contrast)))

    def guide_table(self, contrast: str) -> pd.DataFrame:
        """`guide, gene, betahat_d0.., se_d0..`: likelihood-type estimates of β in one contrast."""
        return pd.DataFrame({"guide": self.guides, "gene": self.gene_of_guide} | _estimates(self.of_guides(contrast)))

    def gene_posterior_table(self, contrast: str) -> pd.DataFrame:
        """`gene, betahat_d0.., se_d0.., lfsr_d0.., n_cells_d0.., days_without_cells`: posterior means and SDs of θ in one contrast."""
        return pd.DataFrame({"gene": self.genes} | self._posterior(self.of_genes(contrast)))

    def guide_posterior_table(self, contrast: str) -> pd.DataFrame:
        """The same of β, after the columns `guide, gene`."""
        return pd.DataFrame({"guide": self.guides, "gene": self.gene_of_guide} | self._posterior(self.of_guides(contrast)))

    def long_table(self, contrasts: Sequence[str]) -> pd.DataFrame:
        """`gene, contrast, day, betahat, se, mean, sd, lfsr, n_cells`: one row for each gene and day in each contrast."""
        tables = []
        for contrast in contrasts:
            own, d = self.of_genes(contrast), len(self.days)
            columns = {"betahat": own.estimate, "se": own.se, "mean": own.mean, "sd": own.sd, "lfsr": own.lfsr, "n_cells": own.cells}
            names = {
                "gene": np.repeat(self.genes, d),
                "contrast": f"{own.fate}:{own.against}",
                "day": np.tile(np.array(self.days, dtype=object), len(self.genes)),
            }
            tables.append(pd.DataFrame(names | {name: values.ravel() for name, values in columns.items()}))
        return pd.concat(tables, ignore_index=True)

    def qc_delta(self, contrast: str) -> pd.DataFrame:
        """`gene, n_guides, delta_mean_gene, delta_sd_gene`: mean and SD of δ over the guides of each gene."""
        delta = self.delta_mean @ self.contrast_weights(contrast)
        own = pd.DataFrame({"gene": self.gene_of_guide, "delta": delta}).groupby("gene")["delta"]
        table = own.agg(n_guides="size", delta_mean_gene="mean", delta_sd_gene=lambda x: x.std(ddof=0))
        return table.reindex(self.genes).rename_axis("gene").reset_index()

    def qc_offset(self, contrast: str) -> pd.DataFrame:
        """`gene, n_guides, offset_mean, offset_sd_across_days`: mean of β over the guides of each gene, minus θ."""
        beta = pd.DataFrame(self.of_guides(contrast).mean).groupby(self.gene_of_guide)
        offset = beta.mean().reindex(self.genes).to_numpy() - self.of_genes(contrast).mean
        count = beta.size().reindex(self.genes).to_numpy()
        return pd.DataFrame({"gene": self.genes, "n_guides": count, "offset_mean": offset.mean(1), "offset_sd_across_days": offset.std(1)})

    def _contrast(self, contrast: str) -> tuple[str, str, np.ndarray]:
        """The fate, the one it is compared with, and the weights of the non-reference fates."""
        names = (self.reference, *self.fates)
        fate, against = resolve_contrast(contrast, names)
        unit = np.vstack([np.zeros(len(self.fates)), np.eye(len(self.fates))])
        return fate, against, unit[names.index(fate)] - unit[names.index(against)]

    def _effects(self, contrast: str, estimate: np.ndarray, estimate_cov: np.ndarray, mean: np.ndarray, cov: np.ndarray, cells: np.ndarray) -> ContrastEffects:
        fate, against, weights = self._contrast(contrast)

        def error(covariance: np.ndarray) -> np.ndarray:
            return np.sqrt(np.einsum("ufgd,f,g->ud", covariance, weights, weights).clip(0))

        return ContrastEffects(
            fate=fate,
            against=against,
            estimate=np.einsum("ufd,f->ud", estimate, weights),
            se=error(estimate_cov),
            mean=np.einsum("ufd,f->ud", mean, weights),
            sd=error(cov),
            cells=cells,
        )

    def _posterior(self, own: ContrastEffects) -> dict[str, np.ndarray]:
        columns = _columns({"betahat": own.mean, "se": own.sd, "lfsr": own.lfsr, "n_cells": own.cells})
        missing = [";".join(f"d{d}" for d in np.flatnonzero(row == 0)) for row in own.cells]
        return columns | {"days_without_cells": np.array(missing, dtype=object)}


def resolve_contrast(contrast: str, fates: Sequence[str]) -> tuple[str, str]:
    """The two fates of a contrast: "A" is A against the reference, the first of the `fates`; "A:B" is A against B."""
    reference, *others = fates
    pairs = {fate: (fate, reference) for fate in others} | {f"{a}:{b}": (a, b) for a in fates for b in fates if a != b}
    if contrast not in pairs:
        advice = f"Choose among {', '.join(others)} (against {reference})"
        near = did_you_mean(contrast, pairs)
        raise InputError(
            f"the contrast {contrast!r} is not a non-reference fate or two fates as A:B. {advice}, or two of them joined by a colon.{near}",
            "contrast_fate",
        )
    return pairs[contrast]


def contrast_names(text: str, fates: Sequence[str]) -> list[str]:
    """The contrasts of a text, each checked: the text itself if it is one, since names of fates may contain commas; else its parts between commas."""
    try:
        resolve_contrast(text, fates)
    except InputError:
        if "," not in text:
            raise
        names = [part.strip() for part in text.split(",")]
        for name in names:
            resolve_contrast(name, fates)
        return names
    return [text]


def _sd(covariance: np.ndarray) -> np.ndarray:
    """SDs (units, F*, D) of covariances (units, F*, F*, D)."""
    return np.sqrt(covariance.diagonal(axis1=1, axis2=2).transpose(0, 2, 1).clip(0))


def _columns(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}_d{d}": table[:, d] for name, table in values.items() for d in range(table.shape[1])}


def _estimates(own: ContrastEffects) -> dict[str, np.ndarray]:
    return _columns({"betahat": own.estimate, "se": own.se})


def summarise(fit: Fit, *, n_draws: int = 1000) -> DaywiseEffects:
    """Likelihood-type estimates and posterior moments of a fit, with names.

    Parameters
    ----------
    fit
        A fit, from `hierarchy.fit`.
    n_draws
        Number of draws for families without closed-form moments ("mean_field").

    Returns
    -------
    DaywiseEffects
        The effects as numpy arrays.

    Raises
    ------
    FitFailed
        If the fit has no posterior; its text is the advice of `Fit.outcome`.

    Warns
    -----
    ScreenWarning
        Where no cell carries a guide of a gene on a day: there is no estimate of its effect.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit, summarise
    >>> effects = summarise(fit(data))
    >>> effects.fates, effects.theta_mean.shape
    (('MES', 'NEU'), (8, 2, 2))
    """
    data, design, moments, estimates = fit.model.data, fit.model.design, fit.moments(n_draws=n_draws), fit.estimates()
    genes = np.array(data.genes, dtype=object)
    effects = DaywiseEffects(
        genes=genes,
        guides=np.array(data.guides, dtype=object),
        gene_of_guide=genes[data.guide_to_gene.cpu().numpy()],
        reference=data.fates[0],
        fates=data.fates[1:],
        days=data.days,
        theta_estimate=estimates.theta.cpu().numpy(),
        theta_estimate_covariance=estimates.theta_covariance.cpu().numpy(),
        beta_estimate=estimates.beta.cpu().numpy(),
        beta_estimate_covariance=estimates.beta_covariance.cpu().numpy(),
        gene_cells=design.gene_cells.cpu().numpy(),
        guide_cells=design.guide_cells.cpu().numpy(),
        **{name: getattr(moments, name).cpu().numpy() for name in moments.__slots__},
    )
    _warn_of_empty_days(effects)
    return effects


def _warn_of_empty_days(effects: DaywiseEffects) -> None:
    gene, day = np.nonzero(effects.gene_cells == 0)
    if gene.size:
        named = first_few(f"{effects.genes[g]} on {effects.days[d]}" for g, d in zip(gene, day, strict=True))
        warn(f"no cell carries a guide of the gene in {gene.size:,} of {effects.gene_cells.size:,} gene-days, so there is no estimate: {named}.")


def check_centred(effects: DaywiseEffects, *, simulated: bool, centred: bool = True) -> None:
    """Check that the guides' deviations average to zero in each gene, and that the mean of β equals θ, to within 0.02.

    Parameters
    ----------
    effects
        Effects, from `summarise`.
    simulated
        Whether the screen is simulated (`Screen.simulated`).
    centred
        Whether the model centred them (`FitSettings.center_guides`).

    Raises
    ------
    AssertionError
        If a gene exceeds the limit on a simulated screen in a centred fit.

    Warns
    -----
    ScreenWarning
        If a gene exceeds the limit otherwise.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import check_centred, fit, summarise
    >>> check_centred(summarise(fit(data)), simulated=True)
    """
    columns = [
        np.abs(table[name]) for fate in effects.fates for table, name in ((effects.qc_delta(fate), "delta_mean_gene"), (effects.qc_offset(fate), "offset_mean"))
    ]
    worst = pd.Series(np.max(columns, axis=0), index=effects.genes).sort_values(ascending=False, kind="stable")
    bad = worst[worst > OFFSET_LIMIT]
    if bad.empty:
        return
    message = f"β is offset from θ by more than {OFFSET_LIMIT} in {len(bad)} genes: {first_few((f'{g} ({v:.3f})' for g, v in bad.items()), 10)}"
    if simulated and centred:
        raise AssertionError(message)
    warn(message, "center_guides")
