"""Simulated high-MOI screens with program usage, for the conditional randomization test."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from data_prep.blocks.base import block_slices
from data_prep.errors import InputError
from data_prep.memory import require_memory
from data_prep.simulate.stored import block_streams, carried, cell_index, stacked, write_screen

NTC = "non-targeting"
BATCHES = ("batch1", "batch2")


def make_sceptre_style_synth(
    N: int = 50_000,
    K: int = 70,
    n_target_genes: int = 300,
    guides_per_gene: int = 6,
    ntc_frac_guides: float = 0.15,
    moi_mean: float = 5.5,
    frac_causal_genes: float = 0.10,
    n_effect_programs: int = 3,
    effect_size: float = 0.6,
    confound_strength: float = 0.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate a high-MOI screen with program usage and known effects, for the conditional randomization test.

    The usage of a cell is softmax(C̃Γ + x'E + noise), with C̃ its covariates, x its targeted genes and E the effects. A seventh of the entries are close to
    zero, as in consensus NMF.

    With `confound_strength` s > 0, treatment and usage have common causes. The expected number of guides of a cell is multiplied by exp(0.8·s·a), with a
    standard normal trait a that the covariates show only through depth and the number of guides. The frequency of each guide differs between batches by
    exp(±s·normal). Usage depends on the number of guides by a curve, for which a linear term does not adjust.

    Parameters
    ----------
    N
        Number of cells.
    K
        Number of programs, at least 2.
    n_target_genes
        Number of target genes.
    guides_per_gene
        Number of guides of each gene.
    ntc_frac_guides
        Share of NTC guides among all guides.
    moi_mean
        Mean number of guides in a cell (a guide that is drawn twice is present once).
    frac_causal_genes
        Share of genes with effects.
    n_effect_programs
        Number of programs that such a gene affects.
    effect_size
        Size of the effects on the logit scale; their signs are random.
    confound_strength
        Strength s of confounding; 0 for none.
    seed
        Random seed.

    Returns
    -------
    anndata.AnnData
        `obsm["cnmf_usage"]`, `obsm["guide_assignment"]` (CSR), `obsm["covar"]` (DataFrame: batch, log_depth, pct_mito, s_score,
        log1p_non_ntc_guides_per_cell), `uns["guide2gene"]`, `uns["guide_names"]`, `uns["program_names"]`, and `uns["true_effects"]` (gene, program, effect).

    Raises
    ------
    InputError
        If a size or a share is out of range.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth
    >>> adata = make_sceptre_style_synth(N=500, K=4, n_target_genes=10, guides_per_gene=2, seed=1)
    >>> adata.obsm["cnmf_usage"].shape, adata.obsm["guide_assignment"].shape
    ((500, 4), (500, 24))
    >>> adata.uns["true_effects"]
        gene    program  effect
    0  GENE6  program_0     0.6
    1  GENE6  program_1    -0.6
    2  GENE6  program_2     0.6
    """
    require_memory(8.0 * N * K, f"the usage of {N:,} cells × {K:,} programs", "N", "K")
    design = UsageDesign(
        N=N,
        K=K,
        n_target_genes=n_target_genes,
        guides_per_gene=guides_per_gene,
        ntc_frac_guides=ntc_frac_guides,
        moi_mean=moi_mean,
        frac_causal_genes=frac_causal_genes,
        n_effect_programs=n_effect_programs,
        effect_size=effect_size,
        confound_strength=confound_strength,
    )
    simulation = _Simulation(design, seed)
    cells = _Cells(*map(stacked, zip(*simulation.blocks(), strict=True)))
    return simulation.screen(cells, slice(0, N))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDesign:
    """Sizes and effects of a screen of `make_sceptre_style_synth`, which describes them.

    Raises
    ------
    InputError
        If a size or a share is out of range.
    """

    N: int
    K: int
    n_target_genes: int
    guides_per_gene: int = 6
    ntc_frac_guides: float = 0.15
    moi_mean: float = 5.5
    frac_causal_genes: float = 0.10
    n_effect_programs: int = 3
    effect_size: float = 0.6
    confound_strength: float = 0.0

    def __post_init__(self) -> None:
        """Check the sizes."""
        if min(self.N, self.n_target_genes, self.guides_per_gene) < 1 or self.K < 2:
            given = f"N={self.N}, K={self.K}, n_target_genes={self.n_target_genes}, guides_per_gene={self.guides_per_gene}"
            raise InputError(f"{given}: all must be at least 1, and K at least 2.", "N", "K", "n_target_genes", "guides_per_gene")
        require_memory(100.0 * self.N, f"{self.N:,} cells", "N")
        require_memory(100.0 * self.n_targeting, f"{self.n_targeting:,} guides", "n_target_genes", "guides_per_gene")
        if not 0 <= self.ntc_frac_guides < 1 or not self.moi_mean > 0:
            given = f"ntc_frac_guides is {self.ntc_frac_guides} and moi_mean {self.moi_mean}"
            raise InputError(f"{given}; they must be in [0, 1) and positive.", "ntc_frac_guides", "moi_mean")
        if not 0 <= self.n_effect_programs <= self.K:
            raise InputError(f"n_effect_programs is {self.n_effect_programs}; there are {self.K} programs.", "n_effect_programs")

    @property
    def n_targeting(self) -> int:
        """Number of targeting guides."""
        return self.n_target_genes * self.guides_per_gene

    @property
    def n_ntc(self) -> int:
        """Number of NTC guides."""
        return round(self.n_targeting * self.ntc_frac_guides / (1 - self.ntc_frac_guides))


def write_usage_screen(path: str | Path, design: UsageDesign, *, seed: int = 0, progress: bool = False) -> None:
    """Write the screen of `make_sceptre_style_synth` to an .h5ad, block by block: it may be larger than memory.

    Parameters
    ----------
    path
        The file.
    design
        Sizes and effects.
    seed
        Random seed.
    progress
        Whether to show a progress bar on a terminal.
    """
    simulation = _Simulation(design, seed)
    blocks = zip(simulation.blocks(), block_slices(design.N), strict=True)
    write_screen(path, design.N, (simulation.screen(cells, rows) for cells, rows in blocks), progress=progress)


class _Cells(NamedTuple):
    """A block of cells; burden is log(1 + targeting guides)."""

    guides: sp.csr_matrix
    usage: np.ndarray
    batch: pd.Categorical
    covariates: np.ndarray
    depth: np.ndarray
    burden: np.ndarray


@dataclass(slots=True, eq=False)
class _Simulation:
    """A design, and what all blocks share, which the stream of the first block draws where it is first needed."""

    d: UsageDesign
    seed: int
    shared: dict[str, Any] = field(default_factory=dict)

    def blocks(self) -> Iterator[_Cells]:
        """The cells with their usage; the guides of each block are dropped after it."""
        d, streams = self.d, block_streams(self.d.N, self.seed)
        drawn = [(rng.integers(0, 2, rows.stop - rows.start).astype(np.int8), rng.normal(size=rows.stop - rows.start)) for rows, rng in streams]
        mean_rate = sum(np.exp(0.8 * d.confound_strength * trait).sum() for _, trait in drawn) / d.N
        guides = [self._guides(rng, batch, trait, mean_rate) for (_, rng), (batch, trait) in zip(streams, drawn, strict=True)]
        mean_burden = sum(self._burden(present).sum() for present in guides) / d.N
        there = [label for b, label in enumerate(BATCHES) if any((batch == b).any() for batch, _ in drawn)]
        for _, rng in streams:
            yield self._cells(rng, *drawn.pop(0), guides.pop(0).astype(np.float32), mean_burden, there)

    def screen(self, cells: _Cells, rows: slice) -> ad.AnnData:
        """These cells as AnnData."""
        d, names = self.d, cell_index(rows)
        width = len(str(max(1, d.n_target_genes - 1)))
        genes = [f"GENE{g:0{width}d}" for g in range(d.n_target_genes)]
        gene_of = {f"{gene}_g{i + 1}": gene for gene in genes for i in range(d.guides_per_gene)} | {f"NTC_{i + 1}": NTC for i in range(d.n_ntc)}
        programs = [f"program_{k}" for k in range(d.K)]
        adata = ad.AnnData(obs=pd.DataFrame(index=names))
        adata.obsm["cnmf_usage"] = cells.usage
        adata.obsm["guide_assignment"] = cells.guides
        adata.obsm["covar"] = pd.DataFrame(
            {
                "batch": cells.batch,
                "log_depth": cells.depth,
                "pct_mito": cells.covariates[:, 2],
                "s_score": cells.covariates[:, 3],
                "log1p_non_ntc_guides_per_cell": cells.burden,
            },
            index=names,
        )
        adata.uns["guide_names"] = np.array(list(gene_of))
        adata.uns["guide2gene"] = gene_of
        adata.uns["program_names"] = np.array(programs)
        where = np.nonzero(effects := self.shared["effects"])
        adata.uns["true_effects"] = pd.DataFrame({"gene": np.array(genes)[where[0]], "program": np.array(programs)[where[1]], "effect": effects[where]})
        return adata

    def _first(self, name: str, draw: Callable[[], np.ndarray]) -> np.ndarray:
        if name not in self.shared:
            self.shared[name] = draw()
        return self.shared[name]

    def _guides(self, rng: np.random.Generator, batch: np.ndarray, trait: np.ndarray, mean_rate: float) -> sp.csr_matrix:
        """Guide presence, bool: a Poisson number of guides in each cell, with log-normal frequencies."""
        d, n_guides, strength = self.d, self.d.n_targeting + self.d.n_ntc, self.d.confound_strength
        number = rng.poisson(d.moi_mean * np.exp(0.8 * strength * trait) / mean_rate)
        weight = self._first("weight", lambda: rng.lognormal(0.0, 0.5, n_guides))
        tilt = self._first("tilt", lambda: strength * rng.normal(size=n_guides))
        of_entry = np.repeat(batch, number)
        columns = np.empty(of_entry.size, np.int64)
        for b in (0, 1):
            w = weight * np.exp((2 * b - 1) * tilt)
            here = of_entry == b
            columns[here] = rng.choice(n_guides, int(here.sum()), p=w / w.sum())
        return carried(number, columns, n_guides)

    def _burden(self, guides: sp.csr_matrix) -> np.ndarray:
        return np.log1p(np.diff(guides[:, : self.d.n_targeting].indptr).astype(np.float64))

    def _cells(self, rng: np.random.Generator, batch: np.ndarray, trait: np.ndarray, guides: sp.csr_matrix, mean_burden: float, batches: list[str]) -> _Cells:
        d, n, strength = self.d, batch.size, self.d.confound_strength
        burden = self._burden(guides)
        depth = rng.normal(10.0, 0.35, n) + 0.15 * strength * trait
        covariates = np.column_stack([batch, (depth - 10) / 0.35, rng.normal(size=(n, 2))])
        effects = self._first("effects", lambda: _effects(d, rng))
        logits = covariates @ self._first("loadings", lambda: rng.normal(0, 0.25, (4, d.K)))
        logits += rng.normal(0, 0.3, (n, d.K))
        gene = np.repeat(np.arange(d.n_target_genes), d.guides_per_gene)
        member = sp.csr_matrix((np.ones(gene.size, np.float32), (np.arange(gene.size), gene)), shape=(gene.size, d.n_target_genes))
        logits += (guides[:, : gene.size] @ member).minimum(1) @ effects
        curve = self._first("curve", lambda: rng.normal(0, 0.6, d.K))
        if strength:
            logits += strength * np.outer((burden - mean_burden) ** 2, curve)
        labels = pd.Categorical(np.array(BATCHES, dtype=object)[batch], categories=batches)
        return _Cells(guides, _usage(logits, rng), labels, covariates, depth, burden)


def _effects(d: UsageDesign, rng: np.random.Generator) -> np.ndarray:
    effects = np.zeros((d.n_target_genes, d.K))
    for g in rng.choice(d.n_target_genes, round(d.frac_causal_genes * d.n_target_genes), replace=False):
        effects[g, rng.choice(d.K, d.n_effect_programs, replace=False)] = d.effect_size * rng.choice([-1.0, 1.0], d.n_effect_programs)
    return effects


def _usage(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Softmax of each row, with a seventh of the entries close to zero, float32; the logits are overwritten."""
    logits -= logits.max(1, keepdims=True)
    usage = np.exp(logits, out=logits)
    usage[rng.random(usage.shape) < 1 / 7] *= 1e-4
    usage /= usage.sum(1, keepdims=True)
    return usage.astype(np.float32)
