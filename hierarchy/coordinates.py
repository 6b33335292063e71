"""Each gene's coordinates, and block algebra over genes with the same number of guides.

A gene's coordinates for one non-reference fate are x = (ξ, v). The first D are the effect on the first day and the steps between days,
ξ_0 = θ_0 and ξ_d = θ_d − θ_{d−1}; the others are the deviations δ = C v in an orthonormal basis C of the mean-zero vectors over the gene's
guides. In these coordinates the prior is independent: ξ_0 ~ N(0, τ²), ξ_d ~ N(0, (σ_time,d · time_scale_d)²), v ~ N(0, σ_guide²).
With `time_scale` there is one σ_time for all steps. All non-reference fates share the map from coordinates to guide effects β.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.linalg import helmert
from torch import Tensor

from data_prep.blocks.disk import quiet_sparse
from data_prep.tensors import FateData
from hierarchy.cells import CellBlock, CellDesign

IDENTIFIED = 1e-10  # eigenvalue of the nuisance columns' correlations below which a direction changes no predictor

GeneVectors = list[Float[Tensor, "_genes _size"]]  # one (L_n, K·F*) tensor for each `GeneGroup`
GeneMatrices = list[Float[Tensor, "_genes _size _size"]]  # one (L_n, K·F*, K·F*) tensor for each `GeneGroup`


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneGroup:
    """The L_n genes that have n guides each, with K coordinates for each non-reference fate.

    Attributes
    ----------
    genes
        Positions of the genes, int64 (L_n,).
    guides
        Positions of each gene's guides, int64 (L_n, n).
    to_beta
        β of guide j on day d as a linear function of a gene's coordinates, float64 (n, D, K).
    first
        First row of this group among all coordinate rows; coordinate k of the group's gene l is in row `first + l·K + k`.
    pairs
        Rows of `CellBlock.pair_cells` that belong to this group, int64 (pairs,).
    pair_gene
        Position within the group of each pair's gene, int64 (pairs,).
    pair_guides
        Positions of the pair's guides among their gene's, int64 (pairs, 2).
    pair_day
        Day of each pair, int64 (pairs,).
    scale_of
        Index of each coordinate's scale, int64 (K,): first τ, then σ_time of each step or the one of all steps, last σ_guide.
    multiplier
        Number by which each coordinate's scale is multiplied, float64 (K,): the user's for steps between days, else 1.
    """

    genes: Int[Tensor, " genes"]
    guides: Int[Tensor, "genes per_gene"]
    to_beta: Float[Tensor, "per_gene days coords"]
    first: int
    pairs: Int[Tensor, " pairs"]
    pair_gene: Int[Tensor, " pairs"]
    pair_guides: Int[Tensor, "pairs 2"]
    pair_day: Int[Tensor, " pairs"]
    scale_of: Int[Tensor, " coords"]
    multiplier: Float[Tensor, " coords"]

    @property
    def n_coords(self) -> int:
        """K, the number of coordinates for each gene and non-reference fate."""
        return self.to_beta.shape[-1]

    @property
    def n_days(self) -> int:
        """D, the number of days."""
        return self.to_beta.shape[1]

    @property
    def rows(self) -> slice:
        """The group's coordinate rows."""
        return slice(self.first, self.first + self.genes.numel() * self.n_coords)

    @property
    def basis(self) -> Float[Tensor, "per_gene contrasts"]:
        """The basis C of the deviations, (n, K − D)."""
        return self.to_beta[:, 0, self.n_days :]

    def split(self, x: Float[Tensor, "rows nonref *more"]) -> Float[Tensor, "genes coords nonref *more"]:
        """The group's part of coordinates (rows, F*, …), as (L_n, K, F*, …)."""
        return x[self.rows].reshape(self.genes.numel(), self.n_coords, *x.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coordinates:
    """All coordinates of a screen: the rows of each group's genes, then the M nuisance rows (days, replicates, burden).

    Attributes
    ----------
    groups
        Genes grouped by their number of guides.
    n_rows
        Number of coordinate rows, nuisance rows included.
    n_nuisance
        M, the number of nuisance rows.
    n_nonref
        F*, the number of non-reference fates.
    n_days
        D, the number of days.
    to_columns
        Map from coordinates to the columns of `CellBlock.rows`, float64 CSR (G·D + M, rows). It leaves out the directions of the nuisance coordinates that
        change no cell's predictor, so that round-off of sums over cells does not enter them: only their prior does.
    from_columns
        The transpose of `to_columns` as CSR.
    packed
        Position of entry (f, g) of a symmetric F* × F* matrix among its P = F*(F* + 1)/2 packed entries, int64 (F*, F*).
    n_scales
        Number of scales of a non-reference fate: D + 1, or 3 where all steps between days share σ_time.
    """

    groups: tuple[GeneGroup, ...]
    n_rows: int
    n_nuisance: int
    n_nonref: int
    n_days: int
    to_columns: Float[Tensor, "columns rows"]
    from_columns: Float[Tensor, "rows columns"]
    packed: Int[Tensor, "nonref nonref"]
    n_scales: int

    @property
    def nuisance(self) -> slice:
        """The nuisance rows."""
        return slice(self.n_rows - self.n_nuisance, self.n_rows)

    @property
    def upper(self) -> Int[Tensor, "2 packed"]:
        """Row and column of each packed entry, (2, P)."""
        return torch.triu_indices(self.n_nonref, self.n_nonref, device=self.packed.device)

    def prior_precision(self, group: GeneGroup, log_scale: Float[Tensor, "nonref scales"]) -> Float[Tensor, "coords nonref"]:
        """Prior precision 1/s² of each coordinate, (K, F*), from log scales (F*, scales)."""
        return (-2 * (log_scale.T[group.scale_of] + group.multiplier.log().unsqueeze(1))).exp()

    def walk_scale(self, log_scale: Float[Tensor, "nonref scales"]) -> Float[Tensor, "nonref days"]:
        """SDs of the effect on the first day and of the steps between days, (F*, D)."""
        group = self.groups[0]
        return (log_scale.exp()[:, group.scale_of] * group.multiplier)[:, : self.n_days]

    def joint_precision(self, group: GeneGroup, spread: Float[Tensor, "scales nonref nonref"]) -> Float[Tensor, "coords nonref nonref"]:
        """Prior precision of each coordinate over fates, (K, F*, F*), from covariances (scales, F*, F*) in place of scales."""
        return torch.linalg.inv(spread)[group.scale_of] / group.multiplier.square().view(-1, 1, 1)

    def join(self, parts: Sequence[Float[Tensor, "..."]], nuisance: Float[Tensor, "nuisance nonref *more"]) -> Float[Tensor, "rows nonref *more"]:
        """The inverse of `GeneGroup.split` over all groups, with the nuisance rows last."""
        return torch.cat([p.reshape(-1, *nuisance.shape[1:]) for p in parts] + [nuisance])


def coordinates(data: FateData, design: CellDesign, *, center_guides: bool = True, time_scale: Float[Tensor, " steps"] | None = None) -> Coordinates:
    """Lay out the coordinates of a screen.

    Parameters
    ----------
    data
        The screen's tensors.
    design
        Its design matrices.
    center_guides
        Whether the guides' deviations average to zero within each gene.
    time_scale
        Multipliers of the steps between days, (D − 1,), which then share σ_time; None for a σ_time of each step.
    """
    device, n_days = data.device, data.n_days
    position = torch.empty_like(data.guide_to_gene)  # of a guide among its gene's
    position[data.guides_by_gene] = torch.arange(data.n_guides, device=device) - data.gene_offsets[data.guide_to_gene[data.guides_by_gene]]
    groups: list[GeneGroup] = []
    first = 0
    for n in torch.unique(data.n_guides_per_gene).tolist():
        group = _gene_group(data, design, position, n, first, center_guides, time_scale)
        groups.append(group)
        first = group.rows.stop
    m, n_nonref = design.n_nuisance, data.n_free
    to_columns = _column_map(groups, first, data.n_guides * n_days, _identified(design.cells.map_reduce(_nuisance_products)))
    packed = torch.tensor([[packed_at(i, j, n_nonref) for j in range(n_nonref)] for i in range(n_nonref)])
    with quiet_sparse():
        by_column, by_row = to_columns.to_sparse_csr(), to_columns.T.coalesce().to_sparse_csr()
    return Coordinates(
        groups=tuple(groups),
        n_rows=first + m,
        n_nuisance=m,
        n_nonref=n_nonref,
        n_days=n_days,
        to_columns=by_column,
        from_columns=by_row,
        packed=packed.to(device),
        n_scales=n_days + 1 if time_scale is None else 2 + (n_days > 1),
    )


def _gene_group(data: FateData, design: CellDesign, position: Tensor, n: int, first: int, center_guides: bool, time_scale: Tensor | None) -> GeneGroup:
    """The genes with `n` guides, whose coordinates begin in row `first`; `position` is that of a guide among its gene's."""
    device, n_days = data.device, data.n_days
    genes = torch.where(data.n_guides_per_gene == n)[0]
    basis = torch.from_numpy(helmert(n).T) if center_guides else torch.eye(n, dtype=torch.float64)
    to_beta = torch.zeros(n, n_days, n_days + basis.shape[1], dtype=torch.float64)
    to_beta[:, :, :n_days] = torch.ones(n_days, n_days).tril()
    to_beta[:, :, n_days:] = basis.unsqueeze(1)
    scale_of = torch.arange(to_beta.shape[2]).clamp_max(n_days)
    multiplier = torch.ones(to_beta.shape[2], dtype=torch.float64)
    if time_scale is not None:
        scale_of = scale_of.clamp_max(1) + (scale_of == n_days) * (n_days > 1)
        multiplier[1:n_days] = time_scale.to(multiplier)
    pair_gene = data.guide_to_gene[design.pair_guides[:, 0]]
    pairs = torch.where(data.n_guides_per_gene[pair_gene] == n)[0]
    return GeneGroup(
        genes=genes,
        guides=data.guides_by_gene[data.gene_offsets[genes].unsqueeze(1) + torch.arange(n, device=device)],
        to_beta=to_beta.to(device),
        first=first,
        pairs=pairs,
        pair_gene=torch.searchsorted(genes, pair_gene[pairs]),
        pair_guides=position[design.pair_guides[pairs]],
        pair_day=design.pair_day[pairs],
        scale_of=scale_of.to(device),
        multiplier=multiplier.to(device),
    )


def _nuisance_products(block: CellBlock) -> Tensor:
    """Σ z z' over the nuisance columns z of a block's cells, float64 (M, M)."""
    z = block.nuisance.double()
    return z.T @ z


def _identified(products: Tensor) -> Tensor:
    """The projection (M, M) on the directions of the nuisance columns that change the predictor of any cell, from Σ z z' of all cells.

    A constant added to all days and subtracted from all replicates changes none; replicates of one day, or a day without cells, add further such directions.
    """
    scale = torch.where(products.diagonal() > 0, products.diagonal(), 1.0).rsqrt()
    values, vectors = torch.linalg.eigh(scale.unsqueeze(1) * products * scale)
    basis, _ = torch.linalg.qr((scale.unsqueeze(1) * vectors)[:, values < IDENTIFIED])
    return torch.eye(len(products)).to(products) - basis @ basis.T


def _column_map(groups: Sequence[GeneGroup], n_gene_rows: int, n_beta: int, identified: Tensor) -> Tensor:
    rows, cols, values = [], [], []
    device = groups[0].genes.device
    for group in groups:
        n_genes, n = group.guides.shape
        j, d, k = torch.where(group.to_beta != 0)
        gene = torch.arange(n_genes, device=device).unsqueeze(1)
        rows.append((group.guides[:, j] * group.n_days + d).flatten())
        cols.append((group.first + gene * group.n_coords + k).flatten())
        values.append(group.to_beta[j, d, k].expand(n_genes, -1).flatten())
    row, col = torch.where(identified != 0)
    index = torch.stack([torch.cat([*rows, n_beta + row]), torch.cat([*cols, n_gene_rows + col])])
    value = torch.cat([*values, identified[row, col]])
    m = len(identified)
    return torch.sparse_coo_tensor(index, value, (n_beta + m, n_gene_rows + m), check_invariants=False).coalesce()


def packed_at(i: int, j: int, n: int) -> int:
    """Position of entry (i, j) of a symmetric n × n matrix among its packed entries, as in `Coordinates.packed`."""
    i, j = min(i, j), max(i, j)
    return i * n - i * (i - 1) // 2 + j - i


def equal_contrasts(n_nonref: int) -> Float[Tensor, "nonref nonref"]:
    """Covariance of effects against the reference where every contrast of two fates has variance 1: (I + 11')/2."""
    return (torch.eye(n_nonref, dtype=torch.float64) + 1) / 2


def gene_information(
    group: GeneGroup, packed: Int[Tensor, "nonref nonref"], by_guide: Float[Tensor, "guides days packed"], by_pair: Float[Tensor, "pairs packed"]
) -> Float[Tensor, "genes size size"]:
    """The likelihood's information about each gene's coordinates, Σ_i x_i x_i' ⊗ W_i over cells i.

    Parameters
    ----------
    group
        The genes.
    packed
        `Coordinates.packed`.
    by_guide
        Sums of the cells' packed F* × F* curvature W_i over the cells that carry a guide on a day, (G, D, P).
    by_pair
        Sums over the cells that carry both guides of a pair on a day, (pairs, P).

    Returns
    -------
    torch.Tensor
        (L_n, K·F*, K·F*).
    """
    n_genes, n = group.guides.shape
    t = group.to_beta
    info = torch.einsum("gdk,lgdp,gdm->lkmp", t, by_guide[group.guides], t)
    if group.pairs.numel():
        a, b = t[group.pair_guides[:, 0], group.pair_day], t[group.pair_guides[:, 1], group.pair_day]
        cross = torch.einsum("ek,ep,em->ekmp", a, by_pair[group.pairs], b)
        info = info.index_add(0, group.pair_gene, cross + cross.transpose(1, 2))
    full = info[..., packed]  # (L, K, K, F, F)
    size = group.n_coords * packed.shape[0]
    return full.permute(0, 1, 3, 2, 4).reshape(n_genes, size, size)
