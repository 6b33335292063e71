"""Each gene's coordinates, and block algebra over genes with the same number of guides.

A gene's coordinates for one free fate are x = (ξ, v): the first day's effect and the steps, ξ_0 = θ_0 and ξ_d = θ_d − θ_{d−1},
then v, the deviations δ = C v in an orthonormal basis C of the mean-zero vectors over its guides. In them the prior is
independent: ξ_0 ~ N(0, τ²), ξ_d ~ N(0, (σ_time,d · time_scale_d)²), v ~ N(0, σ_guide²). All free fates share the map to β.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_prep.tensors import FateData
from hierarchy.cells import CellDesign


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneGroup:
    """The genes that have n guides each: L_n of them, K coordinates for each free fate.

    Attributes
    ----------
    genes, guides
        int64 (L_n,) and (L_n, n).
    to_beta
        float64 (n, D, K), β of guide j on day d from a gene's coordinates.
    first
        The first row of this group among all coordinate rows; gene l's row k is `first + l·K + k`.
    pairs, pair_gene, pair_guides, pair_day
        Which rows of `CellDesign.pair_cells` are of this group, and where they go.
    """

    genes: Tensor
    guides: Tensor
    to_beta: Tensor
    first: int
    pairs: Tensor
    pair_gene: Tensor
    pair_guides: Tensor
    pair_day: Tensor

    @property
    def n_coords(self) -> int:
        """K."""
        return self.to_beta.shape[-1]

    @property
    def n_days(self) -> int:
        """D."""
        return self.to_beta.shape[1]

    @property
    def rows(self) -> slice:
        """The group's coordinate rows."""
        return slice(self.first, self.first + self.genes.numel() * self.n_coords)

    @property
    def basis(self) -> Tensor:
        """C (n, K − D)."""
        return self.to_beta[:, 0, self.n_days :]

    @property
    def scale_of(self) -> Tensor:
        """Which scale each coordinate has: 0 τ, d σ_time of step d, D σ_guide; (K,)."""
        return torch.arange(self.n_coords, device=self.to_beta.device).clamp_max(self.n_days)

    def split(self, x: Tensor) -> Tensor:
        """The group's part of coordinates (rows, F*, ...), as (L_n, K, F*, ...)."""
        return x[self.rows].reshape(self.genes.numel(), self.n_coords, *x.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coordinates:
    """All coordinates of a screen: each group's genes, then the M nuisance columns (days, replicates, burden).

    `to_columns` is sparse CSR (G·D + M, rows) and `from_columns` its transpose, float64; `packed` (F*, F*) says where the
    entry of a symmetric matrix stands among its F*(F* + 1)/2 packed ones.
    """

    groups: tuple[GeneGroup, ...]
    n_rows: int
    n_nuisance: int
    n_free: int
    n_days: int
    to_columns: Tensor
    from_columns: Tensor
    packed: Tensor
    time_scale: Tensor

    @property
    def nuisance(self) -> slice:
        """The nuisance rows."""
        return slice(self.n_rows - self.n_nuisance, self.n_rows)

    def prior_precision(self, group: GeneGroup, log_scale: Tensor) -> Tensor:
        """1/s² of each coordinate, (*batch, K, F*), from log scales (*batch, F*, D + 1)."""
        log_s = (log_scale + self.time_scale.log()).transpose(-1, -2)[..., group.scale_of, :]
        return (-2 * log_s).exp()

    def join(self, parts: Sequence[Tensor], nuisance: Tensor) -> Tensor:
        """The inverse of `GeneGroup.split` over all groups, with the nuisance rows last."""
        return torch.cat([p.reshape(-1, *nuisance.shape[1:]) for p in parts] + [nuisance])


def coordinates(data: FateData, design: CellDesign, *, center_guides: bool = True, time_scale: Tensor | None = None) -> Coordinates:
    """Lay out the coordinates of a screen."""
    device, n_days = data.device, data.n_days
    groups, first = [], 0
    position = torch.empty_like(data.guide_to_gene)  # of a guide among its gene's
    position[data.guides_by_gene] = torch.arange(data.n_guides, device=device) - data.gene_offsets[data.guide_to_gene[data.guides_by_gene]]
    pair_gene = data.guide_to_gene[design.pair_guides[:, 0]]
    for n in torch.unique(data.n_guides_per_gene).tolist():
        genes = torch.where(data.n_guides_per_gene == n)[0]
        guides = data.guides_by_gene[data.gene_offsets[genes].unsqueeze(1) + torch.arange(n, device=device)]
        basis = _mean_zero_basis(n) if center_guides else torch.eye(n, dtype=torch.float64)
        to_beta = torch.zeros(n, n_days, n_days + basis.shape[1], dtype=torch.float64)
        to_beta[:, :, :n_days] = torch.ones(n_days, n_days).tril()
        to_beta[:, :, n_days:] = basis.unsqueeze(1)
        pairs = torch.where(data.n_guides_per_gene[pair_gene] == n)[0]
        group = GeneGroup(
            genes=genes,
            guides=guides,
            to_beta=to_beta.to(device),
            first=first,
            pairs=pairs,
            pair_gene=torch.searchsorted(genes, pair_gene[pairs]),
            pair_guides=position[design.pair_guides[pairs]],
            pair_day=design.pair_day[pairs],
        )
        groups.append(group)
        first = group.rows.stop
    m, n_free = design.n_nuisance, data.n_free
    to_columns = _column_map(groups, first, data.n_guides * n_days, m, device)
    packed = torch.zeros(n_free, n_free, dtype=torch.long)
    upper = torch.triu_indices(n_free, n_free)
    packed[upper[0], upper[1]] = torch.arange(upper.shape[1])
    packed[upper[1], upper[0]] = torch.arange(upper.shape[1])
    ones = torch.ones(n_days + 1, dtype=torch.float64, device=device)
    if time_scale is not None:
        ones[1:n_days] = time_scale.to(ones)
    return Coordinates(
        groups=tuple(groups),
        n_rows=first + m,
        n_nuisance=m,
        n_free=n_free,
        n_days=n_days,
        to_columns=to_columns.to_sparse_csr(),
        from_columns=to_columns.T.coalesce().to_sparse_csr(),
        packed=packed.to(device),
        time_scale=ones,
    )


def _mean_zero_basis(n: int) -> Tensor:
    """Orthonormal columns that span the mean-zero vectors of length n, (n, n − 1): normalised Helmert contrasts."""
    basis = torch.zeros(n, n - 1, dtype=torch.float64)
    for j in range(1, n):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -float(j)
        basis[:, j - 1] /= (j * (j + 1)) ** 0.5
    return basis


def _column_map(groups: Sequence[GeneGroup], n_gene_rows: int, n_beta: int, m: int, device: torch.device) -> Tensor:
    rows, cols, values = [], [], []
    for group in groups:
        n_genes, n = group.guides.shape
        j, d, k = torch.where(group.to_beta != 0)
        gene = torch.arange(n_genes, device=device).unsqueeze(1)
        rows.append((group.guides[:, j] * group.n_days + d).flatten())
        cols.append((group.first + gene * group.n_coords + k).flatten())
        values.append(group.to_beta[j, d, k].expand(n_genes, -1).flatten())
    own = torch.arange(m, device=device)
    index = torch.stack([torch.cat([*rows, n_beta + own]), torch.cat([*cols, n_gene_rows + own])])
    value = torch.cat([*values, torch.ones(m, dtype=torch.float64, device=device)])
    return torch.sparse_coo_tensor(index, value, (n_beta + m, n_gene_rows + m)).coalesce()


def gene_information(group: GeneGroup, packed: Tensor, by_guide: Tensor, by_pair: Tensor) -> Tensor:
    """The likelihood's information about each gene's coordinates, (L_n, K·F*, K·F*).

    `by_guide` (G, D, P) and `by_pair` (pairs, P) are sums over cells of the packed F* × F* curvature of the cell's
    log-likelihood, over the cells that carry a guide, or both guides of a pair, on a day.
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
