"""One pass over the cells: expected log-likelihood, its gradient and its curvature under a Gaussian posterior."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.blocks.base import CellBlocks, add
from data_prep.blocks.disk import mapped
from hierarchy.cells import CellBlock, CellDesign
from hierarchy.coordinates import Coordinates, GeneMatrices, gene_information, packed_at
from hierarchy.inference.weights import Dispersion

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellState:
    """What a pass finds for each cell of a block, weighted by its day and replicate.

    Attributes
    ----------
    residual
        w (p − E[π]) of the non-reference fates, (n, F*).
    curvature
        Posterior mean of w (diag(π) − ππ') of the non-reference fates, packed, (n, P).
    """

    residual: Float[Tensor, "cells nonref"]
    curvature: Float[Tensor, "cells packed"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellSums:
    """Sums over cells: of a block in its own type, of all blocks in float64.

    Attributes
    ----------
    residual
        Of the residuals, by column of the design, (G·D + M, F*).
    curvature
        Of the packed curvatures, by column of the design, (G·D + M, P).
    by_pair
        Of the packed curvatures, over the cells that carry both guides of a pair on a day, (pairs, P).
    nuisance
        Of z z' ⊗ curvature over the nuisance columns z, (M, M, P).
    """

    residual: Float[Tensor, "columns nonref"]
    curvature: Float[Tensor, "columns packed"]
    by_pair: Float[Tensor, "pairs packed"]
    nuisance: Float[Tensor, "nuisance nuisance packed"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """Results of one pass; the likelihood of each cell has the weight of its day and replicate.

    Attributes
    ----------
    weight
        The weights by day and replicate, (D, R).
    log_lik
        Expected log-likelihood.
    pearson
        Posterior mean of w Σ (p − π)²/π over cells and fates.
    states
        Residual and curvature of each cell, in blocks.
    sums
        Their sums.
    gradient
        Gradient of the expected log-likelihood in the coordinates' mean, float64 (rows, F*).
    blocks
        Information of each group's genes, (L_n, K·F*, K·F*) each.
    nuisance
        Information of the nuisance columns, (M·F*, M·F*).
    by_guide
        Sums of the curvature over the cells of each guide and day, (G, D, P).
    by_day
        Sums of the curvature over the cells of each day, (D, P).
    """

    weight: Float[Tensor, "days reps"]
    log_lik: Float[Tensor, ""]
    pearson: Float[Tensor, ""]
    states: CellBlocks[CellState]
    sums: CellSums
    gradient: Float[Tensor, "rows nonref"]
    blocks: GeneMatrices
    nuisance: Float[Tensor, "size size"]
    by_guide: Float[Tensor, "guides days packed"]
    by_day: Float[Tensor, "days packed"]


def wide_sum(cells: CellBlocks[CellBlock], function: Callable[..., R], *arguments: Any) -> R:
    """The sum over blocks, in float64, of results that travel in the type of the blocks."""
    return _wide(cells.map_reduce(function, *arguments, combine=_add_wide))


def _wide(value: Any) -> Any:
    return mapped(value, lambda part: part.double())


def _add_wide(first: Any, second: Any) -> Any:
    return add(_wide(first), second)


def columns_of(design: CellDesign, coords: Coordinates, x: Float[Tensor, "rows width"]) -> Float[Tensor, "columns width"]:
    """Coordinates as effects of the columns of the design: `CellBlock.rows` times them are the linear predictors η."""
    return (coords.to_columns @ x).to(design.dtype)


def apply_curvature(curvature: Float[Tensor, "cells packed"], eta: Float[Tensor, "cells nonref sides"]) -> Float[Tensor, "cells nonref sides"]:
    """Σ_g W_fg η_g for every cell, with the packed curvature W of the cell."""
    n = eta.shape[1]
    return torch.stack([sum(curvature[:, packed_at(f, g, n), None] * eta[:, g] for g in range(n)) for f in range(n)], 1)  # type: ignore[misc]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Effects:
    """A Gaussian posterior by column of the design.

    Attributes
    ----------
    mean
        Means, (G·D + M, F*).
    variance
        Packed covariances over non-reference fates, (G·D + M, P); None to evaluate at the means alone.
    between
        Packed covariances between the guides of each pair, (pairs, P).
    """

    mean: Tensor
    variance: Tensor | None
    between: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Expected:
    """Expectations of the cells of a block before weights: as `CellState`, and sums of three statistics by day and replicate, float64 (3, D·R)."""

    state: CellState
    totals: Tensor


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
    expected = design.cells.map(_expect, _effects(design, coords, x, covariance), design.group_cells.numel())
    log_lik, pearson, square = expected.map_reduce(_totals).reshape(3, *design.group_cells.shape)
    weight = weigh(Dispersion(pearson=pearson, square=square, cells=design.group_cells))
    states = expected.map(_weighted, design.cells, weight)
    sums = wide_sum(design.cells, _sums, states)
    blocks, by_guide, by_day = information(design, coords, sums)
    size = design.n_nuisance * coords.n_nonref
    return Pass(
        weight=weight,
        log_lik=(weight * log_lik).sum(),
        pearson=(weight * pearson).sum(),
        states=states,
        sums=sums,
        gradient=coords.from_columns @ sums.residual,
        blocks=blocks,
        nuisance=sums.nuisance[..., coords.packed].permute(0, 2, 1, 3).reshape(size, size),
        by_guide=by_guide,
        by_day=by_day,
    )


def _effects(design: CellDesign, coords: Coordinates, x: Tensor, covariance: GeneMatrices | None) -> _Effects:
    mean = columns_of(design, coords, x)
    if covariance is None:
        return _Effects(mean=mean, variance=None, between=None)
    by_column = beta_covariance(coords, covariance, len(design.carried)).flatten(0, 1)
    variance = torch.cat([by_column, by_column.new_zeros(design.n_nuisance, by_column.shape[1])])
    between = pair_covariance(coords, covariance, len(design.pair_day)).to(design.dtype) if len(design.pair_day) else None
    return _Effects(mean=mean, variance=variance.to(design.dtype), between=between)


def _expect(block: CellBlock, effects: _Effects, n_groups: int) -> _Expected:
    eta, prob = block.rows @ effects.mean, block.prob
    points = [eta] if effects.variance is None else _cubature(eta, eta_variance(block, effects.variance, effects.between))
    f = eta.shape[1]
    upper = [(i, j) for i in range(f) for j in range(i, f)]
    log_lik, pearson = torch.zeros_like(eta[:, 0]), torch.zeros_like(eta[:, 0])
    mean, curvature = torch.zeros_like(eta), eta.new_zeros(len(eta), len(upper))
    for point in points:
        log_pi = torch.log_softmax(torch.cat([torch.zeros_like(point[:, :1]), point], 1), 1)
        log_lik += (prob * log_pi).sum(1)
        full = log_pi.exp_()
        pearson += ((prob - full).square_() / full.clamp_min(1e-12)).sum(1)
        pi = full[:, 1:]
        mean += pi
        for k, (i, j) in enumerate(upper):
            curvature[:, k] += pi[:, i] * (1 - pi[:, i] if i == j else -pi[:, j])
    for total in (log_lik, pearson, mean, curvature):
        total /= len(points)
    nothing = torch.zeros(n_groups, dtype=torch.float64, device=eta.device)
    totals = torch.stack([nothing.index_add(0, block.group, own.double()) for own in (log_lik, pearson, pearson.square())])
    return _Expected(state=CellState(residual=torch.sub(prob[:, 1:], mean).contiguous(), curvature=curvature), totals=totals)


def _totals(expected: _Expected) -> Tensor:
    return expected.totals


def _weighted(expected: _Expected, block: CellBlock, weight: Tensor) -> CellState:
    own, found = cell_weight(block, weight).unsqueeze(1), expected.state
    return CellState(residual=own * found.residual, curvature=own * found.curvature)


def cell_weight(block: CellBlock, weight: Float[Tensor, "days reps"]) -> Float[Tensor, " cells"]:
    """The weight of each cell of a block, from those by day and replicate."""
    return weight.to(block.prob.dtype).flatten()[block.group]


def _sums(block: CellBlock, state: CellState) -> CellSums:
    f = state.residual.shape[1]
    by_column = block.cols @ torch.cat([state.residual, state.curvature], 1)
    z = block.nuisance.double()  # intercepts and replicates are nearly collinear: float32 sums lose the difference
    return CellSums(
        residual=by_column[:, :f],
        curvature=by_column[:, f:],
        by_pair=block.pair_cells @ state.curvature,
        nuisance=torch.stack([z.T @ (z * one.unsqueeze(1)) for one in state.curvature.unbind(1)], -1),
    )


def information(
    design: CellDesign, coords: Coordinates, sums: CellSums
) -> tuple[GeneMatrices, Float[Tensor, "guides days packed"], Float[Tensor, "days packed"]]:
    """Each gene's Σ_i x_i x_i' ⊗ W_i over cells i, and the sums of the packed W over the cells of each guide and day, and of each day."""
    n_beta = design.carried.numel()
    by_guide = sums.curvature[:n_beta].reshape(*design.carried.shape, -1)
    blocks = [gene_information(group, coords.packed, by_guide, sums.by_pair) for group in coords.groups]
    return blocks, by_guide, sums.curvature[n_beta : n_beta + coords.n_days]


def squared_sums(block: CellBlock, state: CellState) -> CellSums:
    """The sums of a block with the residuals' own products in place of the curvature."""
    f = state.residual.shape[1]
    square = torch.stack([state.residual[:, i] * state.residual[:, j] for i in range(f) for j in range(i, f)], 1)
    return _sums(block, CellState(residual=state.residual, curvature=square))


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


def eta_variance(block: CellBlock, variance: Float[Tensor, "columns packed"], between: Float[Tensor, "pairs packed"] | None) -> Float[Tensor, "cells packed"]:
    """Var(η) of each cell, packed: the sum over its guides, and over pairs of them that share a gene's θ and δ."""
    own = block.rows @ variance
    return own if between is None else own + block.pair_cols @ between


def cholesky_packed(matrix: Float[Tensor, "cells packed"], n: int) -> list[list[Float[Tensor, " cells"]]]:
    """Cholesky factors of packed symmetric n × n matrices, entry by entry: `factor[i][j]` is (N,), j ≤ i. Negative pivots, from round-off, are set to 0."""
    factor: list[list[Tensor]] = []
    for i in range(n):
        row: list[Tensor] = []
        for j in range(i + 1):
            rest = matrix[:, packed_at(i, j, n)] - sum((row[k] * (row[k] if i == j else factor[j][k]) for k in range(j)), start=torch.zeros_like(matrix[:, 0]))
            row.append(rest.clamp_min(0).sqrt() if i == j else rest / factor[j][j].clamp_min(1e-12))
        factor.append(row)
    return factor


def _cubature(eta: Tensor, variance: Tensor) -> list[Tensor]:
    """The points η ± √F* L_j, L the Cholesky factor of the variance, column by column."""
    f = eta.shape[1]
    factor, zero = cholesky_packed(variance, f), torch.zeros_like(eta[:, 0])
    columns = [f**0.5 * torch.stack([factor[i][j] if i >= j else zero for i in range(f)], 1) for j in range(f)]
    return [eta + sign * column for column in columns for sign in (1.0, -1.0)]
