"""`Fit` → `DaywiseEffects`: means and SDs with names, and their quality control."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from data_prep.errors import InputError, first_few, warn
from hierarchy.fit import Fit

OFFSET_LIMIT = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DaywiseEffects:
    """Posterior means and SDs on the logit scale, with the names of their axes.

    `theta_*` (L, F*, D) gene effects; `beta_*` (G, F*, D) guide effects β = θ + δ; `delta_*` (G, F*) guide deviations.
    `fates` are the free fates; `gene_of_guide` (G,) the gene of each guide.
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
    """Means and SDs of a fit; `n_draws` is used by families without closed-form moments."""
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
    """An offset of β from θ, or a mean of δ, above 0.02: an error on a simulated screen, a warning on a real one or an uncentred fit."""
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
