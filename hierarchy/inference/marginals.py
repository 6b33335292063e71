"""Each gene's marginal covariance under the joint Gaussian of all coordinates, not only given everything else.

The joint precision is Q = prior + information. A gene's block of it, inverted, is the gene's covariance *given everything else*; its standard
errors are too small where genes, intercepts and the burden share information. With x the genes' coordinates and ν the nuisance columns, the
marginal covariance of gene ℓ is, by the decomposition of the variance into conditional parts,

    Σ_ℓ = Q_ℓℓ⁻¹  +  Q_ℓℓ⁻¹ Cov(Σ_{m≠ℓ} Q_ℓm x_m | ν) Q_ℓℓ⁻¹  +  X_ℓ Cov(ν) X_ℓ',    X = Q_xx⁻¹ Q_xν,  Cov(ν) = (Q_νν − Q_νx X)⁻¹.

The last term is exact, with one solve for each nuisance column. The middle one, which is small, is a Rao-Blackwellised average over up to `n_probes`
exact draws x ~ N(0, Q_xx⁻¹), with one solve each (Sidén, Lindgren, Bolin and Villani 2018, "Efficient covariance approximations for large sparse
precision matrices"). On small screens the joint precision is inverted as a whole.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hierarchy.cells import CellBlock
from hierarchy.coordinates import GeneMatrices
from hierarchy.inference.curvature import CellState, Pass, cholesky_packed, wide_sum
from hierarchy.inference.linear import Precision, cholesky, conjugate_gradient, factor_blocks, nuisance_block, solve_blocks
from hierarchy.problem import Problem

DENSE_LIMIT = 1_000  # unknowns up to which the joint covariance is computed as a whole
ITERATIONS, TOLERANCE = 30, 1e-5  # of a solve: SDs are then within 1.2e-4 of exact ones, much less than PROBE_ERROR
PROBE_ERROR = 0.007  # relative error of an SD below which no more probes are drawn
BATCH = 16  # probes between two estimates of that error
CHUNK_NUMBERS = 6_000_000  # cells of a block × non-reference fates × right-hand sides held at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marginals:
    """Marginal covariances.

    Attributes
    ----------
    blocks
        Covariances of each group's genes, (L_n, K·F*, K·F*) each.
    nuisance
        Covariance of the nuisance columns, (M·F*, M·F*).
    """

    blocks: GeneMatrices
    nuisance: Float[Tensor, "size size"]


def marginal_covariances(problem: Problem, found: Pass, prior: Float[Tensor, "rows nonref nonref"], *, generator: torch.Generator) -> Marginals:
    """Marginal covariances at the information of a pass over the cells.

    Parameters
    ----------
    problem
        The problem.
    found
        The pass.
    prior
        Prior precision over non-reference fates of each row, (rows, F*, F*).
    generator
        For the probes.
    """
    coords = problem.coords
    precision = Precision(design=problem.design, coords=coords, states=found.states, prior=prior)
    if coords.n_rows * coords.n_nonref <= DENSE_LIMIT:
        return _dense(problem, precision, found)
    factors = factor_blocks(coords, found.blocks, prior)
    genes = _GenesOnly(problem=problem, precision=precision, factors=factors)
    nuisance, response = _nuisance(genes, found)
    shared = cholesky(nuisance)
    blocks = []
    for factor, between, x in zip(factors, _between_genes(genes, generator), response, strict=True):
        root = x @ shared
        blocks.append(torch.cholesky_inverse(factor) + between + root @ root.transpose(1, 2))
    return Marginals(blocks=blocks, nuisance=nuisance)


def _dense(problem: Problem, precision: Precision, found: Pass) -> Marginals:
    coords = problem.coords
    rows, f = coords.n_rows, coords.n_nonref
    n = rows * f
    joint = torch.cat(
        [
            precision(unit.T.reshape(rows, f, -1)).reshape(n, -1)
            for unit in torch.eye(n, dtype=torch.float64, device=coords.packed.device).split(_width(problem))
        ],
        1,
    )
    start = coords.nuisance.start * f
    joint[start:, start:] = found.nuisance + nuisance_block(coords, precision.prior)  # in float64
    covariance = torch.cholesky_inverse(cholesky((joint + joint.T) / 2))
    blocks = []
    for group in coords.groups:
        size = group.n_coords * f
        at = group.rows.start * f + torch.arange(len(group.genes) * size, device=covariance.device).reshape(-1, size)
        blocks.append(covariance[at.unsqueeze(2), at.unsqueeze(1)])
    return Marginals(blocks=blocks, nuisance=covariance[start:, start:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _GenesOnly:
    """Q_xx, the precision of the genes given the nuisance columns, with its solve."""

    problem: Problem
    precision: Precision
    factors: GeneMatrices

    def __call__(self, x: Tensor) -> Tensor:
        out = self.precision(x)
        out[self.problem.coords.nuisance] = 0
        return out

    def blockwise(self, x: Tensor) -> Tensor:
        coords = self.problem.coords
        return coords.join(solve_blocks(coords, self.factors, x), torch.zeros_like(x[coords.nuisance]))

    def solve(self, rhs: Tensor) -> Tensor:
        return conjugate_gradient(self, rhs, self.blockwise, ITERATIONS, TOLERANCE)


def _nuisance(genes: _GenesOnly, found: Pass) -> tuple[Tensor, list[Tensor]]:
    """Cov(ν) (M·F*, M·F*), and X for each group's genes, (L_n, K·F*, M·F*)."""
    coords, precision = genes.problem.coords, genes.precision
    f, m = coords.n_nonref, coords.n_nuisance * coords.n_nonref
    schur = found.nuisance + nuisance_block(coords, precision.prior)
    responses, reductions = [], []
    for unit in torch.eye(m, dtype=torch.float64, device=schur.device).split(_width(genes.problem)):
        x = torch.zeros(coords.n_rows, f, len(unit), dtype=torch.float64, device=unit.device)
        x[coords.nuisance] = unit.T.reshape(-1, f, len(unit))
        column = precision(x)
        column[coords.nuisance] = 0
        response = genes.solve(column)
        reductions.append(precision(response)[coords.nuisance].reshape(m, -1))
        responses.append(response)
    schur = schur - torch.cat(reductions, 1)
    joint = torch.cat(responses, -1)
    return torch.cholesky_inverse(cholesky((schur + schur.T) / 2)), [group.split(joint).flatten(1, 2) for group in coords.groups]


def _between_genes(genes: _GenesOnly, generator: torch.Generator) -> list[Tensor]:
    """The middle term for each group's genes, averaged over batches of draws until its error is below `PROBE_ERROR`, or over all draws."""
    problem, coords = genes.problem, genes.problem.coords
    total = [torch.zeros_like(factor) for factor in genes.factors]
    given_all = sum(torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2).sum() for factor in genes.factors)
    probes, width, done = problem.settings.n_probes, min(BATCH, _width(problem)), 0
    while done < probes:
        noise = _noise(problem, genes.precision, min(width, probes - done), generator)
        noise[coords.nuisance] = 0
        shift = genes.solve(noise) - genes.blockwise(noise)  # −Q_ℓℓ⁻¹ Σ_m Q_ℓm x_m
        for group, out in zip(coords.groups, total, strict=True):
            own = group.split(shift).flatten(1, 2)
            out += own @ own.transpose(1, 2)
        done += noise.shape[-1]
        share = float(sum(out.diagonal(dim1=1, dim2=2).sum() for out in total) / done / given_all)
        if done >= 8 and share / (2 * done) ** 0.5 < PROBE_ERROR:  # relative error of an SD: half the share of the variance × √(2/draws)
            break
    return [out / done for out in total]


def _noise(problem: Problem, precision: Precision, s: int, generator: torch.Generator) -> Tensor:
    """Draws from N(0, Q), (rows, F*, s): prior^½ ε plus the pull-back of noise of the cells with covariance W."""
    coords, f = problem.coords, problem.coords.n_nonref
    seed = int(torch.randint(2**32, (1,), generator=generator, device=generator.device))
    pulled = coords.from_columns @ wide_sum(problem.design.cells, _cell_noise, precision.states, f, s, seed)
    own = torch.randn(coords.n_rows, f, s, generator=generator, dtype=torch.float64, device=generator.device)
    return pulled.reshape(-1, f, s) + torch.linalg.cholesky(precision.prior) @ own


def _cell_noise(block: CellBlock, state: CellState, f: int, s: int, seed: int) -> Tensor:
    """Noise of the cells with covariance W, summed by column, from the block's own stream."""
    curvature, n = state.curvature, len(state.curvature)
    generator = torch.Generator(device=curvature.device).manual_seed((seed + block.first) % 2**32)
    eps = torch.randn(n, f, s, generator=generator, dtype=curvature.dtype, device=curvature.device)
    factor = cholesky_packed(curvature, f)
    cell = torch.stack([sum((factor[i][j].unsqueeze(1) * eps[:, j] for j in range(i + 1)), start=torch.zeros_like(eps[:, 0])) for i in range(f)], 1)
    return block.cols @ cell.reshape(n, f * s)


def _width(problem: Problem) -> int:
    """Number of right-hand sides solved at once, so that memory stays bounded."""
    return max(1, min(256, CHUNK_NUMBERS // (problem.design.largest * problem.coords.n_nonref)))
