"""One pass over the cells: expected log-likelihood, its gradient and its curvature under a Gaussian posterior."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hierarchy.cells import CellDesign
from hierarchy.coordinates import Coordinates, GeneMatrices, gene_information
from hierarchy.inference.weights import Dispersion


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """Results of one pass; the likelihood of each cell has the weight of its day and replicate.

    Attributes
    ----------
    weight
        The weights by day and replicate, (D, R).
    cell_weight
        The weight of each cell, (N,).
    log_lik
        Expected log-likelihood.
    pearson
        Posterior mean of w Σ (p − π)²/π over cells and fates.
    residual
        w (p − E[π]) of the non-reference fates, (N, F*).
    gradient
        Gradient of the expected log-likelihood in the coordinates' mean, float64 (rows, F*).
    curvature
        Posterior mean of w (diag(π) − ππ') of the non-reference fates, packed, (N, P).
    blocks
        Information of each group's genes, (L_n, K·F*, K·F*) each.
    nuisance
        Information of the nuisance columns, (M·F*, M·F*).
    by_guide
        Sums of `curvature` over the cells of each guide and day, (G, D, P).
    by_day
        Sums of `curvature` over the cells of each day, (D, P).
    """

    weight: Float[Tensor, "days reps"]
    cell_weight: Float[Tensor, " cells"]
    log_lik: Float[Tensor, ""]
    pearson: Float[Tensor, ""]
    residual: Float[Tensor, "cells nonref"]
    gradient: Float[Tensor, "rows nonref"]
    curvature: Float[Tensor, "cells packed"]
    blocks: GeneMatrices
    nuisance: Float[Tensor, "size size"]
    by_guide: Float[Tensor, "guides days packed"]
    by_day: Float[Tensor, "days packed"]


def predictor(design: CellDesign, coords: Coordinates, x: Float[Tensor, "rows width"]) -> Float[Tensor, "cells width"]:
    """The linear predictors η of coordinates, one column for each of theirs."""
    return design.rows @ (coords.to_columns @ x).to(design.prob.dtype)


def pull_back(design: CellDesign, coords: Coordinates, y: Float[Tensor, "cells width"]) -> Float[Tensor, "rows width"]:
    """The transpose of `predictor`, in float64."""
    return coords.from_columns @ (design.cols @ y).double()


def apply_curvature(
    curvature: Float[Tensor, "cells packed"], packed: Int[Tensor, "nonref nonref"], eta: Float[Tensor, "cells nonref sides"]
) -> Float[Tensor, "cells nonref sides"]:
    """Σ_g W_fg η_g for every cell, with the packed curvature W of the cell."""
    return torch.stack([sum(curvature[:, packed[f, g], None] * eta[:, g] for g in range(packed.shape[0])) for f in range(packed.shape[0])], 1)  # type: ignore[misc]


def pass_over_cells(
    design: CellDesign,
    coords: Coordinates,
    x: Float[Tensor, "rows nonref"],
    covariance: GeneMatrices | None,
    weigh: Callable[[Dispersion], Float[Tensor, "days reps"]],
) -> Pass:
    """Expectations over cells under an independent Gaussian for each gene.

    A cell's η is then Gaussian in F* dimensions, with its variance summed over the guides that it carries and over pairs of them of one gene.
    Expectations are means over the 2·F* points η ± √F* L_j, L_j the columns of the variance's Cholesky factor: the symmetric cubature
    rule of third degree (McNamee and Stenger 1967).

    Parameters
    ----------
    design
        Design matrices of the cells.
    coords
        The coordinates.
    x
        Means of the coordinates, (rows, F*).
    covariance
        Covariances of each group's genes; None to evaluate at the mean alone.
    weigh
        The weights (D, R) that follow from the cells' dispersion.
    """
    eta = predictor(design, coords, x)
    points = [eta] if covariance is None else _cubature(eta, _eta_variance(design, coords, covariance), coords.packed)
    prob, upper = design.prob, coords.upper
    log_lik, pearson = torch.zeros_like(eta[:, 0]), torch.zeros_like(eta[:, 0])
    mean, curvature = torch.zeros_like(eta), eta.new_zeros(len(eta), upper.shape[1])
    diagonal = upper[0] == upper[1]
    for point in points:
        log_pi = torch.log_softmax(torch.cat([torch.zeros_like(point[:, :1]), point], 1), 1)
        log_lik += (prob * log_pi).sum(1) / len(points)
        full = log_pi.exp()
        pearson += ((prob - full).square() / full.clamp_min(1e-12)).sum(1) / len(points)
        pi = full[:, 1:]
        mean += pi / len(points)
        curvature += (pi[:, upper[0]] * diagonal - pi[:, upper[0]] * pi[:, upper[1]]) / len(points)
    weight = weigh(_dispersion(design, pearson))
    own = weight.flatten()[design.group].to(eta.dtype)
    residual, curvature = own.unsqueeze(1) * (prob[:, 1:] - mean), own.unsqueeze(1) * curvature
    blocks, by_guide, by_day = information(design, coords, curvature)
    z, m, f = design.nuisance, design.n_nuisance, coords.n_nonref
    z = z.double()  # intercepts and replicates are nearly collinear: float32 sums lose the difference
    nuisance = torch.stack([z.T @ (z * curvature[:, p, None]) for p in range(upper.shape[1])], -1)[..., coords.packed]
    return Pass(
        weight=weight,
        cell_weight=own,
        log_lik=(own * log_lik).sum(dtype=torch.float64),
        pearson=(own * pearson).sum(dtype=torch.float64),
        residual=residual,
        gradient=pull_back(design, coords, residual),
        curvature=curvature,
        blocks=blocks,
        nuisance=nuisance.permute(0, 2, 1, 3).reshape(m * f, m * f),
        by_guide=by_guide,
        by_day=by_day,
    )


def _dispersion(design: CellDesign, pearson: Tensor) -> Dispersion:
    """Sums over the cells of each day and replicate."""

    def total(values: Tensor) -> Tensor:
        return torch.zeros_like(design.group_cells).flatten().index_add(0, design.group, values.double()).reshape(design.group_cells.shape)

    return Dispersion(pearson=total(pearson), square=total(pearson.square()), cells=design.group_cells)


def information(
    design: CellDesign, coords: Coordinates, curvature: Float[Tensor, "cells packed"]
) -> tuple[GeneMatrices, Float[Tensor, "guides days packed"], Float[Tensor, "days packed"]]:
    """Each gene's Σ_i x_i x_i' ⊗ W_i over cells i, and the sums of the packed W over the cells of each guide and day, and of each day."""
    n_beta = design.carried.numel()
    sums = (design.cols @ curvature).double()
    by_guide = sums[:n_beta].reshape(*design.carried.shape, -1)
    by_pair = (design.pair_cells @ curvature).double()
    blocks = [gene_information(group, coords.packed, by_guide, by_pair) for group in coords.groups]
    return blocks, by_guide, sums[n_beta : n_beta + coords.n_days]


def beta_covariance(coords: Coordinates, covariance: GeneMatrices, n_guides: int) -> Float[Tensor, "guides days packed"]:
    """Covariance of β_gd over non-reference fates, packed, for each guide and day."""
    f, upper = coords.n_nonref, coords.upper
    out = covariance[0].new_zeros(n_guides, coords.n_days, upper.shape[1])
    for group, cov in zip(coords.groups, covariance, strict=True):
        k = group.n_coords
        pairs = cov.reshape(-1, k, f, k, f).permute(0, 1, 3, 2, 4)[..., upper[0], upper[1]]
        half = torch.einsum("gdk,lkmp->lgdmp", group.to_beta, pairs)
        out[group.guides] = torch.einsum("lgdmp,gdm->lgdp", half, group.to_beta)
    return out


def pair_covariance(coords: Coordinates, covariance: GeneMatrices, n_pairs: int) -> Float[Tensor, "pairs packed"]:
    """Cov(β_ad, β_bd) plus its transpose over non-reference fates, packed, for the pairs (a, b) of one gene's guides that a cell carries."""
    f, upper = coords.n_nonref, coords.upper
    out = covariance[0].new_zeros(n_pairs, upper.shape[1])
    for group, cov in zip(coords.groups, covariance, strict=True):
        k, (a, b), day = group.n_coords, group.pair_guides.T, group.pair_day
        half = torch.einsum("adk,lkfmg->ladmfg", group.to_beta, cov.reshape(-1, k, f, k, f))
        cross = torch.einsum("emfg,em->efg", half[group.pair_gene, a, day], group.to_beta[b, day])
        out[group.pairs] = (cross + cross.transpose(1, 2))[:, upper[0], upper[1]]
    return out


def _eta_variance(design: CellDesign, coords: Coordinates, covariance: GeneMatrices) -> Tensor:
    """Var(η) of each cell, packed (N, P): the sum over its guides, and over pairs of them that share a gene's θ and δ."""
    by_column = beta_covariance(coords, covariance, len(design.carried)).flatten(0, 1)
    nothing = by_column.new_zeros(design.n_nuisance, by_column.shape[1])
    variance = design.rows @ torch.cat([by_column, nothing]).to(design.prob.dtype)
    if not len(design.pair_day):
        return variance
    return variance + design.pair_cols @ pair_covariance(coords, covariance, len(design.pair_day)).to(design.prob.dtype)


def cholesky_packed(matrix: Float[Tensor, "cells packed"], packed: Int[Tensor, "nonref nonref"]) -> list[list[Float[Tensor, " cells"]]]:
    """Cholesky factors of packed symmetric matrices, entry by entry: `factor[i][j]` is (N,), j ≤ i. Negative pivots, from round-off, are set to 0."""
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
