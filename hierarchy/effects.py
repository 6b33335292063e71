"""`Fit` → `DaywiseEffects`: means and SDs with names, and their quality control."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from data_prep.errors import InputError, first_few, warn
from hierarchy.result import Fit

OFFSET_LIMIT = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DaywiseEffects:
    """Posterior means and SDs in log-odds against the reference fate, with the names of their axes. `summarise` makes it.

    Attributes
    ----------
    genes
        Names of the genes, (L,).
    guides
        Names of the targeting guides, (G,).
    gene_of_guide
        The gene of each guide, (G,).
    fates
        Names of the non-reference fates, (F*,).
    days
        Labels of the days, (D,), in time order.
    theta_mean
        Posterior means of the gene effects θ, (L, F*, D).
    theta_sd
        Posterior SDs of θ, (L, F*, D).
    beta_mean
        Posterior means of the guide effects β = θ + δ, (G, F*, D).
    beta_sd
        Posterior SDs of β, (G, F*, D).
    delta_mean
        Posterior means of the guide deviations δ, (G, F*).
    delta_sd
        Posterior SDs of δ, (G, F*).

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
    1  GENE0_g2  GENE0        0.15        0.19   0.03   0.03
    2  GENE0_g3  GENE0       -0.24       -0.20   0.04   0.04
    >>> float(effects.qc_delta("NEU")["delta_mean_gene"].abs().max()) < 1e-6
    True
    """

    genes: Shaped[np.ndarray, " genes"]
    guides: Shaped[np.ndarray, " guides"]
    gene_of_guide: Shaped[np.ndarray, " guides"]
    fates: tuple[str, ...]
    days: tuple[str, ...]
    theta_mean: Float[np.ndarray, "genes nonref days"]
    theta_sd: Float[np.ndarray, "genes nonref days"]
    beta_mean: Float[np.ndarray, "guides nonref days"]
    beta_sd: Float[np.ndarray, "guides nonref days"]
    delta_mean: Float[np.ndarray, "guides nonref"]
    delta_sd: Float[np.ndarray, "guides nonref"]

    def fate_index(self, fate: str) -> int:
        """The position of a non-reference fate."""
        if fate not in self.fates:
            raise InputError(f"the contrast fate {fate!r} is not one of the non-reference fates. Choose among {', '.join(self.fates)}.", "contrast_fate")
        return self.fates.index(fate)

    def gene_table(self, fate: str) -> pd.DataFrame:
        """`gene, betahat_d0.., se_d0..` for one non-reference fate: θ alone."""
        f = self.fate_index(fate)
        return pd.DataFrame({"gene": self.genes} | _columns(self.theta_mean[:, f], self.theta_sd[:, f]))

    def guide_table(self, fate: str) -> pd.DataFrame:
        """`guide, gene, betahat_d0.., se_d0..` for one non-reference fate: β = θ + δ."""
        f = self.fate_index(fate)
        return pd.DataFrame({"guide": self.guides, "gene": self.gene_of_guide} | _columns(self.beta_mean[:, f], self.beta_sd[:, f]))

    def qc_delta(self, fate: str) -> pd.DataFrame:
        """`gene, n_guides, delta_mean_gene, delta_sd_gene`: mean and SD of δ over the guides of each gene."""
        own = pd.DataFrame({"gene": self.gene_of_guide, "delta": self.delta_mean[:, self.fate_index(fate)]}).groupby("gene")["delta"]
        table = own.agg(n_guides="size", delta_mean_gene="mean", delta_sd_gene=lambda x: x.std(ddof=0))
        return table.reindex(self.genes).rename_axis("gene").reset_index()

    def qc_offset(self, fate: str) -> pd.DataFrame:
        """`gene, n_guides, offset_mean, offset_sd_across_days`: mean of β over the guides of each gene, minus θ."""
        f = self.fate_index(fate)
        beta = pd.DataFrame(self.beta_mean[:, f]).groupby(self.gene_of_guide)
        offset = beta.mean().reindex(self.genes).to_numpy() - self.theta_mean[:, f]
        count = beta.size().reindex(self.genes).to_numpy()
        return pd.DataFrame({"gene": self.genes, "n_guides": count, "offset_mean": offset.mean(1), "offset_sd_across_days": offset.std(1)})


def _columns(mean: np.ndarray, sd: np.ndarray) -> dict[str, np.ndarray]:
    days = range(mean.shape[1])
    return {f"betahat_d{d}": mean[:, d] for d in days} | {f"se_d{d}": sd[:, d] for d in days}


def summarise(fit: Fit, *, n_draws: int = 1000) -> DaywiseEffects:
    """Posterior means and SDs of a fit, with names.

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
    data, moments = fit.model.data, fit.moments(n_draws=n_draws)
    genes = np.array(data.genes, dtype=object)
    arrays = {name: getattr(moments, name).cpu().numpy() for name in moments.__slots__}
    return DaywiseEffects(
        genes=genes,
        guides=np.array(data.guides, dtype=object),
        gene_of_guide=genes[data.guide_to_gene.cpu().numpy()],
        fates=data.fates[1:],
        days=data.days,
        **arrays,
    )


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
