"""Linear algebra of the precision of all coordinates: Cholesky factors by gene, and preconditioned conjugate gradients over the cells' products."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.blocks.base import CellBlocks
from hierarchy.cells import CellBlock, CellDesign
from hierarchy.coordinates import Coordinates, GeneGroup, GeneMatrices
from hierarchy.inference.curvature import CellState, Pass, apply_curvature, columns_of, wide_sum


class NotDefinite(torch.linalg.LinAlgError):
    """Raised where a matrix is not positive definite in floating point, though it is by its formula.

    Attributes
    ----------
    genes
        Positions of the genes whose matrices are concerned; empty where a matrix belongs to no single gene.
    """

    def __init__(self, genes: list[int]):
        """Of the genes concerned."""
        super().__init__("a matrix is not positive definite")
        self.genes = genes


def cholesky(matrix: Float[Tensor, "*batch size size"], genes: Int[Tensor, " genes"] | None = None) -> Float[Tensor, "*batch size size"]:
    """Cholesky factor of a matrix, or of one matrix for each of the `genes`; `NotDefinite` names the genes where it does not exist."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if bool(info.any()):
        raise NotDefinite([] if genes is None else genes[info != 0].tolist())
    return factor


def psd_factor(matrix: Float[Tensor, "genes size size"]) -> Float[Tensor, "genes size size"]:
    """A with A A' = matrix, its negative eigenvalues (from round-off, or noise of the probes) set to zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt().unsqueeze(-2)


Operator = Callable[[Float[Tensor, "rows nonref sides"]], Float[Tensor, "rows nonref sides"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Precision:
    """The joint precision Q = prior precision + information, as an operator on coordinates (rows, F*, S).

    Attributes
    ----------
    design
        Design matrices of the cells.
    coords
        The coordinates.
    states
        The cells' states, with the packed curvature of each cell's weighted log-likelihood.
    prior
        Prior precision over non-reference fates of each row, (rows, F*, F*).
    """

    design: CellDesign
    coords: Coordinates
    states: CellBlocks[CellState]
    prior: Float[Tensor, "rows nonref nonref"]

    def __call__(self, x: Float[Tensor, "rows nonref sides"]) -> Float[Tensor, "rows nonref sides"]:
        """Q x."""
        rows, f, s = x.shape
        columns = columns_of(self.design, self.coords, x.reshape(rows, f * s))
        pulled = wide_sum(self.design.cells, _curved, self.states, columns, f)
        return (self.coords.from_columns @ pulled).reshape(rows, f, s) + self.prior @ x


def _curved(block: CellBlock, state: CellState, columns: Tensor, f: int) -> Tensor:
    """rows' W rows · columns."""
    eta = (block.rows @ columns).reshape(len(block.prob), f, -1)
    return block.cols @ apply_curvature(state.curvature, eta).flatten(1)


def conjugate_gradient(
    matrix: Operator, rhs: Float[Tensor, "rows nonref sides"], precondition: Operator, n_iterations: int, tolerance: float = 0.0
) -> Float[Tensor, "rows nonref sides"]:
    """Solve matrix · x = rhs for each right-hand side by preconditioned conjugate gradients (Hestenes and Stiefel 1952).

    With residual r, z = preconditioner · r and direction p, an iteration is α = r'z / p'Ap, x += α p, r −= α Ap, β = r₊'z₊ / r'z, p = z₊ + β p.
    Without a tolerance the number of iterations is fixed, so a GPU need not wait for the host.

    Parameters
    ----------
    matrix
        The product with a symmetric positive definite matrix.
    rhs
        Right-hand sides, (rows, F*, S).
    precondition
        The product with an approximate inverse of the matrix.
    n_iterations
        Number of iterations, at most.
    tolerance
        √(r'z) over its first value at which all sides are solved.
    """
    x = torch.zeros_like(rhs)
    residual = rhs
    z = precondition(residual)
    direction, rz = z, (residual * z).sum((0, 1))
    solved = tolerance**2 * rz
    for _ in range(n_iterations):
        along = matrix(direction)
        step = rz / (direction * along).sum((0, 1)).clamp_min(1e-300)
        x = x + step * direction
        residual = residual - step * along
        z = precondition(residual)
        rz, before = (residual * z).sum((0, 1)), rz
        if tolerance > 0 and bool((rz <= solved).all()):
            break
        direction = z + rz / before.clamp_min(1e-300) * direction
    return x


def prior_blocks(group: GeneGroup, prior: Float[Tensor, "rows nonref nonref"]) -> Float[Tensor, "genes size size"]:
    """Prior precision of each gene's coordinates, (L_n, K·F*, K·F*), from that over the fates of each row."""
    own = group.split(prior)
    between = torch.eye(group.n_coords, dtype=own.dtype, device=own.device)
    return torch.einsum("lkfg,km->lkfmg", own, between).reshape(len(own), group.n_coords * own.shape[-1], -1)


def nuisance_block(coords: Coordinates, prior: Float[Tensor, "rows nonref nonref"]) -> Float[Tensor, "size size"]:
    """Prior precision of the nuisance rows, (M·F*, M·F*)."""
    return torch.block_diag(*prior[coords.nuisance])


def factor_blocks(coords: Coordinates, blocks: GeneMatrices, prior: Float[Tensor, "rows nonref nonref"]) -> GeneMatrices:
    """Cholesky factors of each gene's block of a precision, prior + information.

    Parameters
    ----------
    coords
        The coordinates.
    blocks
        Information of each group's genes.
    prior
        Prior precision over non-reference fates of each row, (rows, F*, F*).
    """
    return [cholesky(info + prior_blocks(group, prior), group.genes) for group, info in zip(coords.groups, blocks, strict=True)]


def solve_blocks(coords: Coordinates, factors: GeneMatrices, x: Float[Tensor, "rows nonref sides"]) -> list[Float[Tensor, "_genes _size sides"]]:
    """Each gene's block solved against its part of coordinates, from the blocks' Cholesky factors: (L_n, K·F*, S) for each group."""
    return [torch.cholesky_solve(group.split(x).flatten(1, 2), factor) for group, factor in zip(coords.groups, factors, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CentredPreconditioner:
    """Gene blocks and a nuisance block, in coordinates where each day's intercept is that of the day's mean cell.

    Without the shift every gene is coupled to the intercepts and through them to all other genes; with it the blocks are nearly all of Q.

    Attributes
    ----------
    coords
        The coordinates.
    factors
        Cholesky factors of the genes' blocks.
    nuisance
        Cholesky factor of the nuisance block, (M·F*, M·F*).
    shift
        Day means of the coordinates' features, (rows, D); 0 in nuisance rows.
    """

    coords: Coordinates
    factors: GeneMatrices
    nuisance: Float[Tensor, "size size"]
    shift: Float[Tensor, "rows days"]

    def __call__(self, x: Float[Tensor, "rows nonref sides"]) -> Float[Tensor, "rows nonref sides"]:
        """An approximation of Q⁻¹ x."""
        rows, f, s = x.shape
        start, days = self.coords.nuisance.start, slice(self.coords.nuisance.start, self.coords.nuisance.start + self.coords.n_days)
        moved = x - (self.shift @ x[days].reshape(-1, f * s)).reshape(rows, f, s)
        genes = solve_blocks(self.coords, self.factors, moved)
        nuisance = torch.cholesky_solve(x[start:].reshape(-1, s), self.nuisance).reshape(-1, f, s)
        out = self.coords.join(genes, nuisance)
        back = (self.shift.T @ out.reshape(rows, f * s)).reshape(-1, f, s)
        return torch.cat([out[:start], nuisance[: self.coords.n_days] - back, nuisance[self.coords.n_days :]])


def centred_preconditioner(design: CellDesign, coords: Coordinates, found: Pass, prior: Float[Tensor, "rows nonref nonref"]) -> CentredPreconditioner:
    """Build the preconditioner at a pass over the cells.

    Parameters
    ----------
    design
        Design matrices of the cells.
    coords
        The coordinates.
    found
        The pass.
    prior
        Prior precision over non-reference fates of each row, (rows, F*, F*).
    """
    shift = day_means(design, coords)
    factors = factor_blocks(coords, centred_information(coords, shift, found.blocks, found.by_guide, found.by_day), prior)
    nuisance = cholesky(found.nuisance + nuisance_block(coords, prior))
    return CentredPreconditioner(coords=coords, factors=factors, nuisance=nuisance, shift=shift)


def day_means(design: CellDesign, coords: Coordinates) -> Float[Tensor, "rows days"]:
    """Mean of each coordinate's feature over the cells of each day, (rows, D); 0 in nuisance rows."""
    carried, d = design.carried, coords.n_days
    by_day = torch.zeros(carried.numel() + design.n_nuisance, d, dtype=torch.float64, device=carried.device)
    by_day[: carried.numel()] = (torch.eye(d, dtype=torch.float64, device=carried.device) * carried.unsqueeze(-1)).flatten(0, 1)
    return coords.from_columns @ by_day


def centred_information(
    coords: Coordinates,
    shift: Float[Tensor, "rows days"],
    blocks: GeneMatrices,
    by_guide: Float[Tensor, "guides days packed"],
    by_day: Float[Tensor, "days packed"],
) -> GeneMatrices:
    """Each gene's information about the day means, Σ_i (x_i − x̄_day)(x_i − x̄_day)' ⊗ W_i over cells i.

    Parameters
    ----------
    coords
        The coordinates.
    shift
        The day means x̄, from `day_means`.
    blocks
        Each gene's Σ_i x_i x_i' ⊗ W_i.
    by_guide
        Sums of the packed W_i over the cells of each guide and day, (G, D, P).
    by_day
        Sums of the packed W_i over the cells of each day, (D, P).
    """
    out = []
    for group, info in zip(coords.groups, blocks, strict=True):
        mean = group.split(shift)  # (L, K, D)
        total = torch.einsum("gdk,lgdp->lkdp", group.to_beta, by_guide[group.guides])
        cross = torch.einsum("lkdp,lmd->lkmp", total, mean)
        own = torch.einsum("lkd,dp,lmd->lkmp", mean, by_day, mean)
        change = (own - cross - cross.transpose(1, 2))[..., coords.packed]
        out.append(info + change.permute(0, 1, 3, 2, 4).reshape(info.shape))
    return out
