"""The Pyro model: sample sites only."""

from dataclasses import dataclass
from functools import cached_property

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.tensors import FateData
from hierarchy.cells import CellBlock, CellDesign, cell_design, whole_block
from hierarchy.ops import center_within_gene, check_mean_zero, guide_effect, log_fate_prob, random_walk, sparse_product
from hierarchy.settings import Priors


@dataclass(frozen=True, kw_only=True, eq=False)
class HierarchyModel:
    """The guide → gene hierarchy as a Pyro model: call it, or hand it to `SVI`, `Predictive`, `MCMC` or `render_model`.

    For cell i on day d in replicate r, with centred burden k and targeting guides G_i, and non-reference fate f::

        η_if = α_fd + b_fr + γ_f k + Σ_{g∈G_i} (θ_ℓ(g)fd + δ_gf),    π_i = softmax(0, η_i)
        log L = w Σ_i Σ_f p_if log π_if

    θ is a random walk over days from τ_f z with steps σ_time,fd ε, or σ_time,f ε times `time_scale`, δ = σ_guide,f (u − mean of u in the gene).
    Sites: tau, sigma_time, sigma_guide, alpha, b, gamma, z, eps, u; deterministic: theta (F*, L, D), delta (F*, G).
    The cells' log-likelihood has one entry for each cell of the plate; the plate alone scales it under subsampling.

    Attributes
    ----------
    data
        The screen's tensors.
    design
        Design matrices of the cells, in blocks.
    priors
        Prior scales.
    weight
        The likelihood weight w, or the weights by day and replicate, (D, R).
    center_guides
        Whether δ is centred within each gene.
    time_scale
        Multipliers of the steps between days, (D − 1,), which then share one σ_time for each fate; None for a σ_time of each step.
    batch_cells
        Number of cells in a minibatch; None for all.
    check_centering
        Whether to assert at every call that δ is centred.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> import pyro
    >>> from hierarchy import hierarchy_model
    >>> trace = pyro.poutine.trace(hierarchy_model(data)).get_trace()
    >>> [name for name, site in trace.nodes.items() if site["type"] == "sample" and name not in ("fates", "genes", "guides", "cells")]
    ['tau', 'sigma_guide', 'gamma', 'alpha', 'b', 'sigma_time', 'z', 'eps', 'theta', 'u', 'delta', 'fate']
    """

    data: FateData
    design: CellDesign
    priors: Priors
    weight: float | Float[Tensor, "..."] = 1.0
    center_guides: bool = True
    time_scale: Float[Tensor, " steps"] | None = None
    batch_cells: int | None = None
    check_centering: bool = False

    def __call__(self) -> None:
        """Run the sample statements."""
        data, s = self.data, self.priors
        zero, one = self.cells.prob.new_zeros(()), self.cells.prob.new_ones(())
        n_steps = data.n_days - 1
        with pyro.plate("fates", data.n_free, dim=-2):
            tau = pyro.sample("tau", dist.HalfNormal(s.tau * one))
            sigma_guide = pyro.sample("sigma_guide", dist.HalfNormal(s.guide * one))
            gamma = pyro.sample("gamma", dist.Normal(zero, s.gamma))
            alpha = pyro.sample("alpha", dist.Normal(zero, s.alpha).expand([data.n_days]).to_event(1))
            b = pyro.sample("b", dist.Normal(zero, s.rep).expand([data.n_reps]).to_event(1))
            sigma_time = (
                pyro.sample("sigma_time", dist.HalfNormal(s.time * one).expand([n_steps if self.time_scale is None else 1]).to_event(1)) if n_steps else None
            )
            with pyro.plate("genes", data.n_genes, dim=-1):
                first = tau * pyro.sample("z", dist.Normal(zero, 1.0))
                if sigma_time is None:
                    theta = first.unsqueeze(-1)
                else:
                    eps = pyro.sample("eps", dist.Normal(zero, 1.0).expand([n_steps]).to_event(1))
                    scale = one if self.time_scale is None else self.time_scale
                    theta = random_walk(first, sigma_time * scale * eps)
                theta = pyro.deterministic("theta", theta, event_dim=1)
            with pyro.plate("guides", data.n_guides, dim=-1):
                u = pyro.sample("u", dist.Normal(zero, 1.0))
                u = center_within_gene(u, data.guide_to_gene, data.n_guides_per_gene) if self.center_guides else u
                delta = pyro.deterministic("delta", sigma_guide * u, event_dim=0)
        if self.check_centering and self.center_guides:
            check_mean_zero(delta.detach(), data.guide_to_gene, data.n_guides_per_gene, data.genes)
        with pyro.plate("cells", data.n_cells, subsample_size=self.batch_cells, dim=-1) as cell:
            beta = guide_effect(theta, delta, data.guide_to_gene)
            eta = self.linear_predictor(beta, alpha.squeeze(-2), b.squeeze(-2), gamma.squeeze(-1), None if self.batch_cells is None else cell)
            prob = self.cells.prob if self.batch_cells is None else self.cells.prob[cell]
            log_lik = (prob.T * log_fate_prob(eta)).sum(-2, keepdim=True)
            group = self.cells.group if self.batch_cells is None else self.cells.group[cell]
            pyro.factor("fate", self.weight_table.flatten()[group].to(log_lik) * log_lik)

    @cached_property
    def cells(self) -> CellBlock:
        """All cells in one block, which the sample statements need in memory."""
        return whole_block(self.data, self.design)

    @property
    def weight_table(self) -> Float[Tensor, "days reps"]:
        """The likelihood weights by day and replicate, (D, R)."""
        return torch.as_tensor(self.weight, dtype=torch.float64, device=self.design.group_cells.device).expand_as(self.design.group_cells)

    def linear_predictor(
        self,
        beta: Float[Tensor, "*batch guides days"],
        alpha: Float[Tensor, "*draws nonref days"],
        b: Float[Tensor, "*draws nonref reps"],
        gamma: Float[Tensor, "*draws nonref"],
        cell: Int[Tensor, " batch_cells"] | None = None,
    ) -> Float[Tensor, "*draws nonref batch_cells"]:
        """Linear predictors η of cells from the effects.

        Parameters
        ----------
        beta
            Guide effects β, (…, F*, G, D).
        alpha
            Intercepts α, (…, F*, D).
        b
            Shifts of the replicates, (…, F*, R).
        gamma
            Slopes in the burden, (…, F*).
        cell
            Positions of the cells; None for all.

        Returns
        -------
        torch.Tensor
            η, (…, F*, cells).
        """
        beta = beta.expand(*alpha.shape[:-1], *beta.shape[-2:])
        weights = torch.cat([beta.flatten(-2), alpha, b, gamma.unsqueeze(-1)], -1)
        dense = weights.reshape(-1, weights.shape[-1]).T.contiguous()
        rows = self.cells.rows
        eta = sparse_product(rows, self.cells.cols, dense) if cell is None else _picked_product(rows, cell, dense)
        return eta.T.reshape(*weights.shape[:-1], -1)


def _picked_product(rows: Tensor, cell: Tensor, dense: Tensor) -> Tensor:
    """Rows `cell` of the CSR matrix `rows`, times `dense`; no other rows are read."""
    start, stop = rows.crow_indices()[cell].long(), rows.crow_indices()[cell + 1].long()
    count = stop - start
    row = torch.repeat_interleave(torch.arange(cell.numel(), device=cell.device), count)
    within = torch.arange(row.numel(), device=cell.device) - (count.cumsum(0) - count)[row]
    entry = start[row] + within
    terms = dense[rows.col_indices()[entry].long()] * rows.values()[entry].unsqueeze(-1)
    return dense.new_zeros(cell.numel(), dense.shape[1]).index_add(0, row, terms)


def hierarchy_model(data: FateData, *, priors: Priors | None = None, dtype: torch.dtype = torch.float32, **options: object) -> HierarchyModel:
    """The Pyro model of a screen, to be used with any of Pyro's inference algorithms.

    Parameters
    ----------
    data
        The screen's tensors.
    priors
        Prior scales; by default those of `Priors`.
    dtype
        Type of the design matrices and the likelihood.
    **options
        Attributes weight, center_guides, time_scale, batch_cells and check_centering of `HierarchyModel`.

    Returns
    -------
    HierarchyModel
        A callable without arguments.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> import pyro
    >>> from hierarchy import hierarchy_model
    >>> prior = pyro.infer.Predictive(hierarchy_model(data, weight=50.0), num_samples=3, return_sites=["theta"])()
    >>> tuple(prior["theta"].shape)  # draws, non-reference fates, genes, days
    (3, 2, 8, 2)
    """
    return HierarchyModel(data=data, design=cell_design(data, dtype=dtype), priors=priors or Priors(), **options)  # type: ignore[arg-type]
