"""What every posterior family is fitted to: a screen's designs and coordinates, with the priors and settings."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.blocks.base import BLOCK_CELLS
from data_prep.blocks.place import Place
from data_prep.memory import Needs
from data_prep.tensors import FateData
from hierarchy.cells import CellDesign, cell_design
from hierarchy.coordinates import Coordinates, coordinates, equal_contrasts
from hierarchy.inference.weights import Dispersion, common_weight, group_weights
from hierarchy.model import HierarchyModel
from hierarchy.settings import FitSettings, Priors

GENE_MATRICES, COLUMN_VECTORS, BLOCKS_AT_ONCE = 40, 200, 4  # held at once at the peak


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A screen to be fitted; nothing in it changes during the fit.

    Attributes
    ----------
    data
        The screen's tensors.
    design
        Design matrices of the cells.
    coords
        Coordinates of the genes and the nuisance columns.
    priors
        Prior scales.
    settings
        Settings of the fit.
    time_scale
        Multipliers of the steps between days, (D − 1,), which then share σ_time; None for a σ_time of each step.
    """

    data: FateData
    design: CellDesign
    coords: Coordinates
    priors: Priors
    settings: FitSettings
    time_scale: Float[Tensor, " steps"] | None = None

    @classmethod
    def of(
        cls,
        data: FateData,
        priors: Priors,
        settings: FitSettings,
        *,
        time_scale: Float[Tensor, " steps"] | None = None,
        dtype: torch.dtype = torch.float32,
        place: Place | None = None,
    ) -> "Problem":
        """Build the designs and coordinates of a screen.

        Parameters
        ----------
        data
            The screen's tensors.
        priors
            Prior scales.
        settings
            Settings of the fit.
        time_scale
            Multipliers of the steps between days, (D − 1,), which then share σ_time; None for a σ_time of each step.
        dtype
            Type of the cells' designs; sums over cells are kept in float64 in any case.
        place
            Where the blocks of cells are; in memory by default.
        """
        design = cell_design(data, dtype=dtype, place=place)
        coords = coordinates(data, design, center_guides=settings.center_guides, time_scale=time_scale)
        return cls(data=data, design=design, coords=coords, priors=priors, settings=settings, time_scale=time_scale)

    def model(self, weight: Float[Tensor, "days reps"]) -> HierarchyModel:
        """The Pyro model at likelihood weights by day and replicate."""
        return HierarchyModel(
            data=self.data,
            design=self.design,
            priors=self.priors,
            weight=weight,
            center_guides=self.settings.center_guides,
            time_scale=None if self.time_scale is None else self.time_scale.to(self.coords.packed.device, self.design.dtype),
            check_centering=self.settings.check_centering,
        )

    def weigh(self, found: Dispersion) -> Float[Tensor, "days reps"]:
        """The likelihood weights, from the cells' dispersion where the settings have no number."""
        of = self.settings.likelihood_weight
        if isinstance(of, str):
            n_varied = int((self.data.fate_prob.amax(0) > 0).sum()) - 1  # a fate that no cell has adds no dispersion
            return (group_weights if of == "auto" else common_weight)(found, max(1, n_varied))
        return torch.full_like(found.cells, of)

    @property
    def nuisance_prior(self) -> Float[Tensor, "nuisance nonref"]:
        """Prior precision 1/s² of the nuisance rows, (M, F*): days, replicates, burden."""
        p, coords = self.priors, self.coords
        n_reps = coords.n_nuisance - coords.n_days - 1
        scale = torch.tensor([p.alpha] * coords.n_days + [p.rep] * n_reps + [p.gamma], dtype=torch.float64, device=coords.packed.device)
        return scale.pow(-2).unsqueeze(1).expand(-1, coords.n_nonref)

    def prior(self, log_scale: Float[Tensor, "nonref scales"]) -> Float[Tensor, "rows nonref"]:
        """Prior precision 1/s² of every coordinate, (rows, F*)."""
        parts = [self.coords.prior_precision(g, log_scale).expand(g.genes.numel(), -1, -1) for g in self.coords.groups]
        return self.coords.join(parts, self.nuisance_prior)

    def joint_prior(self, spread: Float[Tensor, "scales nonref nonref"]) -> Float[Tensor, "rows nonref nonref"]:
        """Prior precision over fates of every row, (rows, F*, F*), from the covariances of effects; it is the same whichever fate is the reference.

        The nuisance rows have their prior SD in every contrast of two fates, and not only against the reference.
        """
        parts = [self.coords.joint_precision(g, spread).expand(g.genes.numel(), -1, -1, -1) for g in self.coords.groups]
        return self.coords.join(parts, self.nuisance_prior.unsqueeze(-1) * torch.linalg.inv(equal_contrasts(self.coords.n_nonref).to(spread)))


def memory_needs(data: FateData) -> Needs:
    """Bytes that a fit of a screen and its checks take, in memory and in files; found by measurement, in proportion to the parts that are largest."""
    n, f, n_days = data.n_cells, data.n_free, data.n_days
    packed, columns = f * (f + 1) // 2, data.n_guides * n_days
    nuisance = n_days + data.n_reps + 1
    design = 16 * (len(data.cell_guides) + 3 * n) + n * (4 * nuisance + 4 * (f + 1) + 8)
    states = 4 * 4 * (f + packed) * n  # of up to four passes at once
    sizes = data.n_guides_per_gene.double() + n_days - 1
    genes = 8 * float((sizes * f).square().sum())
    fixed = GENE_MATRICES * genes + COLUMN_VECTORS * 8 * f * columns
    block = (design + states) / n * min(n, BLOCK_CELLS) * BLOCKS_AT_ONCE
    return Needs(in_memory=design + states + fixed + block, in_files=fixed + block)
