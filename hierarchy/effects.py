"""`Fit` → `DaywiseEffects`: means and SDs with names, and their quality control."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from data_prep.errors import InputError, first_few, warn
from hierarchy.fitting import Fit

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
        The free fates, (F*,): all but the reference.
    days
        Labels of the days, (D,), in time order.
    theta_mean
        Gene effects θ, (L, F*, D).
    theta_sd
        Their posterior SDs.
    beta_mean
        Guide effects β = θ + δ, (G, F*, D).
    beta_sd
        Posterior SDs of the sum.
    delta_mean
        Guide deviations δ, (G, F*).
    delta_sd
        Their posterior SDs.

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

    genes: np.ndarray
    guides: np.ndarray
    gene_of_guide: np.ndarray
    fates: tuple[str, ...]
    days: tuple[str, ...]
    theta_mean: np.ndarray
    theta_sd: np.ndarray
    beta_mean: np.ndarray
    beta_sd: np.ndarray
    delta_mean: np.ndarray
    delta_sd: np.ndarray

    def fate_index(self, fate: str) -> int:
        """The position of a free fate."""
        if fate not in self.fates:
            raise InputError(f"the contrast fate {fate!r} is not a free fate; choose among {', '.join(self.fates)} (--contrast-fate).")
        return self.fates.index(fate)

    def gene_table(self, fate: str) -> pd.DataFrame:
        """`gene, betahat_d0.., se_d0..` for one free fate: θ alone."""
        f = self.fate_index(fate)
        return pd.DataFrame({"gene": self.genes} | _columns(self.theta_mean[:, f], self.theta_sd[:, f]))

    def guide_table(self, fate: str) -> pd.DataFrame:
        """`guide, gene, betahat_d0.., se_d0..` for one free fate: β = θ + δ."""
        f = self.fate_index(fate)
        return pd.DataFrame({"guide": self.guides, "gene": self.gene_of_guide} | _columns(self.beta_mean[:, f], self.beta_sd[:, f]))

    def qc_delta(self, fate: str) -> pd.DataFrame:
        """`gene, n_guides, delta_mean_gene, delta_sd_gene`: δ over the guides of each gene."""
        own = pd.DataFrame({"gene": self.gene_of_guide, "delta": self.delta_mean[:, self.fate_index(fate)]}).groupby("gene")["delta"]
        table = own.agg(n_guides="size", delta_mean_gene="mean", delta_sd_gene=lambda x: x.std(ddof=0))
        return table.reindex(self.genes).rename_axis("gene").reset_index()

    def qc_offset(self, fate: str) -> pd.DataFrame:
        """`gene, n_guides, offset_mean, offset_sd_across_days`: mean over guides of β, less θ."""
        f = self.fate_index(fate)
        beta = pd.DataFrame(self.beta_mean[:, f]).groupby(self.gene_of_guide)
        offset = beta.mean().reindex(self.genes).to_numpy() - self.theta_mean[:, f]
        count = beta.size().reindex(self.genes).to_numpy()
        return pd.DataFrame({"gene": self.genes, "n_guides": count, "offset_mean": offset.mean(1), "offset_sd_across_days": offset.std(1)})


def _columns(mean: np.ndarray, sd: np.ndarray) -> dict[str, np.ndarray]:
    days = range(mean.shape[1])
    return {f"betahat_d{d}": mean[:, d] for d in days} | {f"se_d{d}": sd[:, d] for d in days}


def summarise(fit: Fit, *, n_draws: int = 1000) -> DaywiseEffects:
    """Means and SDs of a fit, with names.

    Parameters
    ----------
    fit
        Of `hierarchy.fit`.
    n_draws
        Draws for families without closed-form moments ("mean_field").

    Returns
    -------
    DaywiseEffects
        On the CPU, as numpy arrays.

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
    """Check that the guides' deviations average to zero in each gene, and that β is not offset from θ, to within 0.02.

    Parameters
    ----------
    effects
        Of `summarise`.
    simulated
        Whether the screen is simulated (`Screen.simulated`).
    centred
        Whether the model centred them (`FitSettings.center_guides`).

    Raises
    ------
    AssertionError
        Where the limit is passed on a simulated screen in a centred fit.

    Warns
    -----
    ScreenWarning
        Where it is passed otherwise.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import check_centred, fit, summarise
    >>> check_centred(summarise(fit(data)), simulated=True)
    """
    worst: dict[str, float] = {}
    for fate in effects.fates:
        for table, column in ((effects.qc_delta(fate), "delta_mean_gene"), (effects.qc_offset(fate), "offset_mean")):
            for gene, value in zip(table["gene"], table[column].abs(), strict=True):
                worst[gene] = max(worst.get(gene, 0.0), float(value))
    bad = sorted((g for g, v in worst.items() if v > OFFSET_LIMIT), key=lambda g: -worst[g])
    if not bad:
        return
    said = f"β is offset from θ by more than {OFFSET_LIMIT} in {len(bad)} genes: {first_few((f'{g} ({worst[g]:.3f})' for g in bad), 10)}"
    if simulated and centred:
        raise AssertionError(said)
    warn(said)
