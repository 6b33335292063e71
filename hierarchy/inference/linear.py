"""Solves with the precision of all coordinates at once: preconditioned conjugate gradients over the cells' products."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from data_prep.errors import InputError
from hierarchy.cells import CellDesign
from hierarchy.coordinates import Coordinates
from hierarchy.inference.curvature import Pass, apply_curvature, predictor, pull_back


@contextmanager
def definite() -> Iterator[None]:
    """What to try where a precision, symmetric and positive by its formula, is neither in floating point; also a decorator."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise InputError(
            "a posterior precision lost its definiteness to round-off: the likelihood weight is too large for the screen's digits, as where every cell has "
            "the same fate probabilities. Fix a smaller likelihood_weight (1 is the mildest), and look for fates with almost no spread between cells."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Precision:
    """Q = prior precision + w · information, as an operator on coordinates (rows, F*, S)."""

    design: CellDesign
    coords: Coordinates
    curvature: Tensor
    weight: Tensor
    prior: Tensor  # (rows, F*)

    def __call__(self, x: Tensor) -> Tensor:
        """Q x."""
        rows, f, s = x.shape
        eta = predictor(self.design, self.coords, x.reshape(rows, f * s)).reshape(-1, f, s)
        y = apply_curvature(self.curvature, self.coords.packed, eta).reshape(-1, f * s)
        return self.weight * pull_back(self.design, self.coords, y).reshape(rows, f, s) + self.prior.unsqueeze(-1) * x


def conjugate_gradient(matrix: Callable[[Tensor], Tensor], rhs: Tensor, precondition: Callable[[Tensor], Tensor], n_iterations: int) -> Tensor:
    """Solve matrix · x = rhs for each column of (rows, F*, S), in a fixed number of iterations (no host round trips)."""
    x = torch.zeros_like(rhs)
    residual = rhs
    z = precondition(residual)
    direction, rz = z, (residual * z).sum((0, 1))
    for _ in range(n_iterations):
        along = matrix(direction)
        step = rz / (direction * along).sum((0, 1)).clamp_min(1e-300)
        x = x + step * direction
        residual = residual - step * along
        z = precondition(residual)
        rz, before = (residual * z).sum((0, 1)), rz
        direction = z + rz / before.clamp_min(1e-300) * direction
    return x


def factor_blocks(blocks: list[Tensor], weight: Tensor, prior: list[Tensor]) -> list[Tensor]:
    """Cholesky factors of each gene's prior (L_n, K, F*) + w · information."""
    return [torch.linalg.cholesky(weight * info + torch.diag_embed(p.flatten(1))) for info, p in zip(blocks, prior, strict=True)]


def solve_blocks(coords: Coordinates, factors: list[Tensor], x: Tensor) -> list[Tensor]:
    """Each group's blocks solved against its part of coordinates (rows, F*, S): (L_n, K·F*, S)."""
    return [torch.cholesky_solve(group.split(x).flatten(1, 2), factor) for group, factor in zip(coords.groups, factors, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CentredPreconditioner:
    """Gene blocks and a nuisance block, in coordinates where each day's intercept is that of the day's mean cell.

    Without the shift every gene is coupled to the intercepts and through them to all others; with it the blocks are nearly all of Q.
    """

    coords: Coordinates
    factors: list[Tensor]
    nuisance: Tensor
    shift: Tensor  # (rows, D): day means of the coordinates' features; 0 in nuisance rows

    def __call__(self, x: Tensor) -> Tensor:
        """An approximation of Q⁻¹ x."""
        rows, f, s = x.shape
        start, days = self.coords.nuisance.start, slice(self.coords.nuisance.start, self.coords.nuisance.start + self.coords.n_days)
        moved = x - (self.shift @ x[days].reshape(-1, f * s)).reshape(rows, f, s)
        genes = solve_blocks(self.coords, self.factors, moved)
        nuisance = torch.cholesky_solve(x[start:].reshape(-1, s), self.nuisance).reshape(-1, f, s)
        out = self.coords.join(genes, nuisance)
        back = (self.shift.T @ out.reshape(rows, f * s)).reshape(-1, f, s)
        return torch.cat([out[:start], nuisance[: self.coords.n_days] - back, nuisance[self.coords.n_days :]])


def centred_preconditioner(design: CellDesign, coords: Coordinates, found: Pass, weight: Tensor, prior: Tensor) -> CentredPreconditioner:
    """Build the preconditioner at a pass."""
    shift = day_means(design, coords)
    blocks = centred_information(coords, shift, found.blocks, found.by_guide, found.by_day)
    factors = factor_blocks(blocks, weight, [group.split(prior) for group in coords.groups])
    nuisance = torch.linalg.cholesky(weight * found.nuisance + torch.diag(prior[coords.nuisance].flatten()))
    return CentredPreconditioner(coords=coords, factors=factors, nuisance=nuisance, shift=shift)


def day_means(design: CellDesign, coords: Coordinates) -> Tensor:
    """The mean of each coordinate's feature over the cells of each day, (rows, D); 0 in nuisance rows."""
    carried, d = design.carried, coords.n_days
    by_day = torch.zeros(carried.numel() + design.n_nuisance, d, dtype=torch.float64, device=carried.device)
    by_day[: carried.numel()] = (torch.eye(d, dtype=torch.float64, device=carried.device) * carried.unsqueeze(-1)).flatten(0, 1)
    return coords.from_columns @ by_day


def centred_information(coords: Coordinates, shift: Tensor, blocks: list[Tensor], by_guide: Tensor, by_day: Tensor) -> list[Tensor]:
    """Each gene's Σ_i (x_i − x̄_day)(x_i − x̄_day)' ⊗ W_i from the uncentred `blocks` and the sums of W by guide and day (G, D, P) and day (D, P)."""
    out = []
    for group, info in zip(coords.groups, blocks, strict=True):
        mean = group.split(shift)  # (L, K, D)
        total = torch.einsum("gdk,lgdp->lkdp", group.to_beta, by_guide[group.guides])
        cross = torch.einsum("lkdp,lmd->lkmp", total, mean)
        own = torch.einsum("lkd,dp,lmd->lkmp", mean, by_day, mean)
        change = (own - cross - cross.transpose(1, 2))[..., coords.packed]
        out.append(info + change.permute(0, 1, 3, 2, 4).reshape(info.shape))
    return out
