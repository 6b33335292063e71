"""`Screen` → `FateData`: the tensors of the hierarchical model, on one device."""

import copy
import hashlib
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64, Shaped
from torch import Tensor

from data_prep.blocks.base import block_slices
from data_prep.errors import InputError, did_you_mean, first_few
from data_prep.guide_index import index_guides
from data_prep.screen import Screen

FORMAT = 2  # part of the fingerprint: a change of what the tensors mean makes caches and checkpoints of earlier versions stale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FateData:
    """The tensors of the hierarchical model: N cells, G targeting guides of L genes, D days, R replicates, F fates.

    `build_fate_data` makes it; all tensors are on one device.

    Attributes
    ----------
    guide_to_gene
        Gene of each targeting guide, int64 (G,).
    n_guides_per_gene
        Number of guides of each gene, at least 1, int64 (L,).
    gene_offsets
        Cumulative sum of `n_guides_per_gene`, starting at 0, int64 (L + 1,).
    guides_by_gene
        Guides sorted by gene, int64 (G,); `guides_by_gene[gene_offsets[l]:gene_offsets[l + 1]]` are the guides of gene l.
    cell_offsets
        Offsets of the cells in `cell_guides`, int64 (N + 1,).
    cell_guides
        Targeting guides of all cells, int32 (entries,); `cell_guides[cell_offsets[i]:cell_offsets[i + 1]]` are those of cell i.
    guide_burden
        Number of guides in each cell (NTC included) minus the mean of the cell's day, float32 (N,).
    day
        Day of each cell as an index into `days`, int32 (N,).
    rep
        Replicate of each cell as an index into `reps`, int32 (N,).
    fate_prob
        Fate probabilities, float32 (N, F); rows sum to 1, and column 0 is the reference fate.
    genes
        Names of the genes in sorted order, length L.
    guides
        Names of the targeting guides, length G.
    fates
        Names of the fates with the reference fate first, length F.
    days
        Labels of the days in time order, length D.
    reps
        Labels of the replicates, length R.
    cells
        Names of the cells, (N,).
    fingerprint
        SHA-256 of the screen and the reference fate.
    cluster
        Cluster of each cell for robust standard errors, int64 (N,), or None.

    Raises
    ------
    InputError
        If the guide index is inconsistent, or if the parts differ in size.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> data = build_fate_data(screen, ref_fate="EC")
    >>> data.n_cells, data.n_guides, data.n_genes, data.n_days, data.n_reps, data.n_free
    (500, 30, 5, 4, 2, 2)
    >>> data.n_guides_per_gene.tolist(), data.gene_offsets.tolist()
    ([6, 6, 6, 6, 6], [0, 6, 12, 18, 24, 30])
    """

    guide_to_gene: Int64[Tensor, " guides"]
    n_guides_per_gene: Int64[Tensor, " genes"]
    gene_offsets: Int64[Tensor, " gene_offsets"]
    guides_by_gene: Int64[Tensor, " guides"]
    cell_offsets: Int64[Tensor, " cell_offsets"]
    cell_guides: Int[Tensor, " entries"]
    guide_burden: Float32[Tensor, " cells"]
    day: Int[Tensor, " cells"]
    rep: Int[Tensor, " cells"]
    fate_prob: Float32[Tensor, "cells fates"]
    genes: tuple[str, ...]
    guides: tuple[str, ...]
    fates: tuple[str, ...]
    days: tuple[str, ...]
    reps: tuple[str, ...]
    cells: Shaped[np.ndarray, " cells"]
    fingerprint: str
    cluster: Int64[Tensor, " cells"] | None = None

    def __post_init__(self) -> None:
        """Check that every guide is in exactly one gene, and that offsets, counts, codes and names agree."""
        if len(self.guide_to_gene) != self.n_guides or bool(((self.guide_to_gene < 0) | (self.guide_to_gene >= self.n_genes)).any()):
            raise InputError(f"the guide index is inconsistent: guide_to_gene must hold a gene, 0 to {self.n_genes - 1}, for each of {self.n_guides} guides.")
        count = torch.bincount(self.guide_to_gene, minlength=self.n_genes)
        offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
        if count.numel() != self.n_genes or not torch.equal(count, self.n_guides_per_gene) or not torch.equal(offsets, self.gene_offsets):
            raise InputError("the guide index is inconsistent: guide_to_gene, n_guides_per_gene and gene_offsets disagree.")
        if bool((count == 0).any()):
            raise InputError(f"genes without a guide: {first_few(self.genes[i] for i in torch.where(count == 0)[0].tolist())}.")
        if not torch.equal(self.guides_by_gene.sort().values, torch.arange(self.n_guides, device=count.device)):
            raise InputError("guides_by_gene does not list every guide exactly once.")
        if bool((self.guide_to_gene[self.guides_by_gene].diff() < 0).any()):
            raise InputError("guides_by_gene is not sorted by gene.")
        self._check_cells()

    def _check_cells(self) -> None:
        n = self.n_cells
        sizes = {name: len(getattr(self, name)) for name in ("rep", "fate_prob", "guide_burden", "cells")} | {"cell_offsets": len(self.cell_offsets) - 1}
        sizes |= {} if self.cluster is None else {"cluster": len(self.cluster)}
        if wrong := {name: size for name, size in sizes.items() if size != n}:
            raise InputError(f"the parts differ in size: {n} cells by day, but {wrong}.")
        if self.fate_prob.ndim != 2 or self.fate_prob.shape[1] != len(self.fates):
            raise InputError(f"fate_prob has shape {tuple(self.fate_prob.shape)} but there are {len(self.fates)} fates.")
        ends = self.cell_offsets[[0, -1]].tolist()
        if ends != [0, len(self.cell_guides)] or bool((self.cell_offsets.diff() < 0).any()):
            raise InputError("cell_offsets must rise from 0 to the length of cell_guides.")
        for name, codes, size in (("cell_guides", self.cell_guides, self.n_guides), ("day", self.day, self.n_days), ("rep", self.rep, self.n_reps)):
            if bool(((codes < 0) | (codes >= size)).any()):
                raise InputError(f"{name} holds codes outside 0 to {size - 1}.")

    @property
    def n_cells(self) -> int:
        """Number of cells, N."""
        return len(self.day)

    @property
    def n_guides(self) -> int:
        """Number of targeting guides, G."""
        return len(self.guides)

    @property
    def n_genes(self) -> int:
        """Number of genes, L."""
        return len(self.genes)

    @property
    def n_days(self) -> int:
        """Number of days, D."""
        return len(self.days)

    @property
    def n_reps(self) -> int:
        """Number of replicates, R."""
        return len(self.reps)

    @property
    def n_free(self) -> int:
        """Number of non-reference fates, F − 1."""
        return len(self.fates) - 1

    @property
    def device(self) -> torch.device:
        """The device all tensors are on."""
        return self.day.device

    def tensors(self) -> dict[str, Shaped[Tensor, "..."]]:
        """The tensors by name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> "FateData":
        """The same data on `device`."""
        moved = copy.copy(self)  # `dataclasses.replace` would run every check again
        for name, value in self.tensors().items():
            object.__setattr__(moved, name, value.to(device))
        return moved


def build_fate_data(screen: Screen, *, ref_fate: str) -> FateData:
    """Make the tensors of the hierarchical model from a screen.

    Parameters
    ----------
    screen
        Screen from `read_screen`.
    ref_fate
        Reference fate of the log-odds. Choose a common fate: the effects on all other fates are relative to it.

    Returns
    -------
    FateData
        The tensors, on the CPU; `.to("cuda")` moves them.

    Raises
    ------
    InputError
        If the screen has no fate of this name.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> build_fate_data(screen, ref_fate="MES").fates
    ('MES', 'EC', 'NEU')
    """
    if ref_fate not in screen.fate_names:
        there = ", ".join(screen.fate_names)
        near = did_you_mean(ref_fate, screen.fate_names)
        raise InputError(f"the reference fate {ref_fate!r} is not among the fates: {there}.{near} Choose one of them with ref_fate.", "ref_fate")
    order = [screen.fate_names.index(ref_fate)] + [i for i, f in enumerate(screen.fate_names) if f != ref_fate]
    targeting = np.flatnonzero(~screen.is_ntc)
    index = index_guides(screen.guide_gene[targeting])
    own = screen.guides[:, targeting]
    burden = np.diff(screen.guides.indptr).astype(np.float64)
    per_day = np.bincount(screen.day, weights=burden) / np.bincount(screen.day)
    prob = np.empty(screen.fate_prob.shape, np.float32)
    for to, origin in enumerate(order):
        prob[:, to] = screen.fate_prob[:, origin]
    return FateData(
        guide_to_gene=torch.from_numpy(index.guide_to_gene),
        n_guides_per_gene=torch.from_numpy(index.n_guides_per_gene),
        gene_offsets=torch.from_numpy(index.gene_offsets),
        guides_by_gene=torch.from_numpy(index.guides_by_gene),
        cell_offsets=torch.from_numpy(own.indptr.astype(np.int64)),
        cell_guides=torch.from_numpy(own.indices.astype(np.int32)),
        guide_burden=torch.from_numpy((burden - per_day[screen.day]).astype(np.float32)),
        day=torch.from_numpy(screen.day.astype(np.int32)),
        rep=torch.from_numpy(screen.rep.astype(np.int32)),
        fate_prob=torch.from_numpy(prob),
        genes=tuple(str(g) for g in index.genes),
        guides=tuple(str(g) for g in screen.guide_names[targeting]),
        fates=tuple(screen.fate_names[i] for i in order),
        days=screen.day_labels,
        reps=screen.rep_labels,
        cells=screen.cells,
        fingerprint=fingerprint(screen, ref_fate=ref_fate),
        cluster=None if screen.clusters is None else torch.from_numpy(screen.clusters.copy()),
    )


def fingerprint(screen: Screen, *, ref_fate: str) -> str:
    """SHA-256 of the reference fate and of everything in the screen that `build_fate_data` reads."""
    digest = hashlib.sha256(f"fate-data {FORMAT} {ref_fate}".encode())
    arrays = [screen.guides.indptr.astype(np.int64), screen.guides.indices.astype(np.int64), screen.is_ntc]
    arrays += [screen.fate_prob, screen.day, screen.rep]
    arrays += [] if screen.clusters is None else [screen.clusters]
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    names = (screen.cells, screen.guide_names, screen.guide_gene, screen.fate_names, screen.day_labels, screen.rep_labels)
    for group in names:
        for part in block_slices(len(group)):
            digest.update(("\x1f".join(map(str, group[part])) + "\x1f").encode())
        digest.update(b"\x1e")
    return digest.hexdigest()
