"""One pass over the cells: expected log-likelihood, its gradient and its curvature under a Gaussian posterior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hierarchy.cells import CellDesign
from hierarchy.coordinates import Coordinates, gene_information


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """What one pass finds, for a likelihood of weight 1.

    Attributes
    ----------
    log_lik
        Expected log-likelihood.
    pearson
        Σ (p − π)²/π over cells and fates, averaged over the posterior.
    residual
        (N, F*) p − E[π] of the free fates.
    gradient
        float64 (rows, F*), of the expected log-likelihood with respect to the coordinates' mean.
    curvature
        (N, P) packed diag(π) − ππ' of the free fates, averaged over the posterior.
    blocks
        Each group's information, (L_n, K·F*, K·F*).
    nuisance
        The nuisance columns' information, (M·F*, M·F*).
    by_guide, by_day
        (G, D, P) and (D, P) sums of `curvature`.
    """

    log_lik: Tensor
    pearson: Tensor
    residual: Tensor
    gradient: Tensor
    curvature: Tensor
    blocks: list[Tensor]
    nuisance: Tensor
    by_guide: Tensor
    by_day: Tensor


def predictor(design: CellDesign, coords: Coordinates, x: Tensor) -> Tensor:
    """η (N, width) of coordinates (rows, width)."""
    return design.rows @ (coords.to_columns @ x).to(design.prob.dtype)


def pull_back(design: CellDesign, coords: Coordinates, y: Tensor) -> Tensor:
    """The transpose of `predictor`: (rows, width), float64, from (N, width)."""
    return coords.from_columns @ (design.cols @ y).double()


def apply_curvature(curvature: Tensor, packed: Tensor, eta: Tensor) -> Tensor:
    """Σ_f' W_ff' η_f' for every cell: (N, F*, S) from (N, F*, S)."""
    return torch.stack([sum(curvature[:, packed[f, g], None] * eta[:, g] for g in range(packed.shape[0])) for f in range(packed.shape[0])], 1)  # type: ignore[misc]


def pass_over_cells(design: CellDesign, coords: Coordinates, x: Tensor, covariance: list[Tensor] | None) -> Pass:
    """Expectations over cells under independent Gaussians for each gene: mean `x` (rows, F*), `covariance` of each group's genes.

    A cell's η is then Gaussian in F* dimensions, with variance summed over the guides it carries and pairs of them of one gene; the expectation
    is over the 2·F* points of the symmetric third-degree cubature rule (McNamee and Stenger 1967). None for the covariance is the mode's pass.
    """
    eta = predictor(design, coords, x)
    points = [eta] if covariance is None else _cubature(eta, _eta_variance(design, coords, covariance), coords.packed)
    prob, upper = design.prob, torch.triu_indices(coords.n_free, coords.n_free, device=eta.device)
    log_lik = pearson = eta.new_zeros((), dtype=torch.float64)
    mean, curvature = torch.zeros_like(eta), eta.new_zeros(len(eta), upper.shape[1])
    diagonal = upper[0] == upper[1]
    for point in points:
        log_pi = torch.log_softmax(torch.cat([torch.zeros_like(point[:, :1]), point], 1), 1)
        log_lik = log_lik + (prob * log_pi).sum(dtype=torch.float64) / len(points)
        full = log_pi.exp()
        pearson = pearson + ((prob - full).square() / full.clamp_min(1e-12)).sum(dtype=torch.float64) / len(points)
        pi = full[:, 1:]
        mean += pi / len(points)
        curvature += (pi[:, upper[0]] * diagonal - pi[:, upper[0]] * pi[:, upper[1]]) / len(points)
    residual = prob[:, 1:] - mean

    blocks, by_guide, by_day = information(design, coords, curvature)
    z, m, f = design.nuisance, design.n_nuisance, coords.n_free
    z = z.double()  # intercepts and replicates are nearly collinear: float32 sums lose the difference
    nuisance = torch.stack([z.T @ (z * curvature[:, p, None]) for p in range(upper.shape[1])], -1)[..., coords.packed]
    return Pass(
        log_lik=log_lik,
        pearson=pearson,
        residual=residual,
        gradient=pull_back(design, coords, residual),
        curvature=curvature,
        blocks=blocks,
        nuisance=nuisance.permute(0, 2, 1, 3).reshape(m * f, m * f),
        by_guide=by_guide,
        by_day=by_day,
    )


def information(design: CellDesign, coords: Coordinates, curvature: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Each group's Σ_i x_i x_i' ⊗ W_i, and the sums of the packed W (N, P) over guide and day (G, D, P), and day (D, P)."""
    n_beta = design.carried.numel()
    sums = (design.cols @ curvature).double()
    by_guide = sums[:n_beta].reshape(*design.carried.shape, -1)
    by_pair = (design.pair_cells @ curvature).double()
    blocks = [gene_information(group, coords.packed, by_guide, by_pair) for group in coords.groups]
    return blocks, by_guide, sums[n_beta : n_beta + coords.n_days]


def beta_covariance(coords: Coordinates, covariance: list[Tensor], n_guides: int) -> Tensor:
    """Cov(β_gd) over free fates, packed: (G, D, P)."""
    f = coords.n_free
    upper = torch.triu_indices(f, f, device=coords.packed.device)
    out = covariance[0].new_zeros(n_guides, coords.n_days, upper.shape[1])
    for group, cov in zip(coords.groups, covariance, strict=True):
        k = group.n_coords
        pairs = cov.reshape(-1, k, f, k, f).permute(0, 1, 3, 2, 4)[..., upper[0], upper[1]]
        half = torch.einsum("gdk,lkmp->lgdmp", group.to_beta, pairs)
        out[group.guides] = torch.einsum("lgdmp,gdm->lgdp", half, group.to_beta)
    return out


def pair_covariance(coords: Coordinates, covariance: list[Tensor], n_pairs: int) -> Tensor:
    """Cov(β_ad, β_bd) + its transpose over free fates, for the pairs (a, b) of one gene's guides that a cell carries, packed: (pairs, P)."""
    f = coords.n_free
    upper = torch.triu_indices(f, f, device=coords.packed.device)
    out = covariance[0].new_zeros(n_pairs, upper.shape[1])
    for group, cov in zip(coords.groups, covariance, strict=True):
        k, (a, b), day = group.n_coords, group.pair_guides.T, group.pair_day
        half = torch.einsum("adk,lkfmg->ladmfg", group.to_beta, cov.reshape(-1, k, f, k, f))
        cross = torch.einsum("emfg,em->efg", half[group.pair_gene, a, day], group.to_beta[b, day])
        out[group.pairs] = (cross + cross.transpose(1, 2))[:, upper[0], upper[1]]
    return out


def _eta_variance(design: CellDesign, coords: Coordinates, covariance: list[Tensor]) -> Tensor:
    """Var(η) of each cell, packed (N, P): the sum over its guides, and over pairs of them that share a gene's θ and δ."""
    by_column = beta_covariance(coords, covariance, len(design.carried)).flatten(0, 1)
    nothing = by_column.new_zeros(design.n_nuisance, by_column.shape[1])
    variance = design.rows @ torch.cat([by_column, nothing]).to(design.prob.dtype)
    if not len(design.pair_day):
        return variance
    return variance + design.pair_cols @ pair_covariance(coords, covariance, len(design.pair_day)).to(design.prob.dtype)


def cholesky_packed(matrix: Tensor, packed: Tensor) -> list[list[Tensor]]:
    """Cholesky factors of packed symmetric matrices (N, P), entry by entry: `factor[i][j]` is (N,), j ≤ i."""
    factor: list[list[Tensor]] = []
    for i in range(packed.shape[0]):
        row: list[Tensor] = []
        for j in range(i + 1):
            rest = matrix[:, packed[i, j]] - sum((row[k] * (row[k] if i == j else factor[j][k]) for k in range(j)), start=torch.zeros_like(matrix[:, 0]))
            row.append(rest.clamp_min(0).sqrt() if i == j else rest / factor[j][j].clamp_min(1e-12))
        factor.append(row)
    return factor


def _cubature(eta: Tensor, variance: Tensor, packed: Tensor) -> list[Tensor]:
    """The points η ± √F* L_j, L the Cholesky factor of the variance, column by column."""
    f, factor, zero = packed.shape[0], cholesky_packed(variance, packed), torch.zeros_like(eta[:, 0])
    columns = [f**0.5 * torch.stack([factor[i][j] if i >= j else zero for i in range(f)], 1) for j in range(f)]
    return [eta + sign * column for column in columns for sign in (1.0, -1.0)]
