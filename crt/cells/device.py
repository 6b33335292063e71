"""The sums of `crt.cells.block` on a device (torch): blocks are moved there once, and only sums leave. Imported where a device is asked for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crt.cells import block as cells_block
from crt.cells.block import CellBlock, MeanScores, Members, Tilts
from crt.linear import scores as linear_scores
from crt.tails.cumulants import PowerSums, power_sums
from data_prep.blocks.base import CellBlocks, InMemory, add
from data_prep.blocks.place import Place

PIECE = 4096  # cells whose products are summed in float32
HELD = 2**24  # values of several tests held at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceBlock(CellBlock):
    """A `CellBlock` whose arrays are tensors on a device."""

    rows: Any
    columns: Any

    def __post_init__(self) -> None:
        """Tensors are left as they are."""

    @property
    def C(self) -> Any:
        """The design, float32 (cells, covariates)."""
        return self.rows[:, : self.n_covariates]

    @property
    def Y(self) -> Any:
        """The outcomes, float32 (cells, programs)."""
        return self.rows[:, self.n_covariates : self.n_covariates + self.n_programs]


class DeviceBlocks(InMemory[Any]):
    """Blocks on a device; sums are taken there, and come to the host when they are complete."""

    def map_reduce(self, function: Callable[..., Any], *arguments: Any, combine: Callable[[Any, Any], Any] = add) -> Any:
        """As `CellBlocks.map_reduce`."""
        return _to_host(super().map_reduce(function, *arguments, combine=combine))

    def map(self, function: Callable[..., Any], *arguments: Any) -> "DeviceBlocks":
        """As `CellBlocks.map`."""
        return DeviceBlocks(self.each(function, *arguments))


@dataclass(frozen=True, slots=True)
class OnDevice(Place):
    """On a device, such as "cuda"."""

    device: torch.device
    folder: None = field(default=None, init=False)

    def load(self, loaders: Sequence[Callable[[], Any]]) -> CellBlocks[Any]:
        """As `Place.load`."""
        return DeviceBlocks(self._moved(loader()) for loader in loaders)

    def put(self, blocks: Iterable[Any]) -> CellBlocks[Any]:
        """As `Place.put`, of blocks that are on the device."""
        return DeviceBlocks(blocks)

    def _moved(self, block: CellBlock) -> DeviceBlock:
        rows, columns = (torch.from_numpy(np.array(part)).to(self.device) for part in (block.rows, block.columns))
        return DeviceBlock(rows=rows, columns=columns, n_covariates=block.n_covariates, n_programs=block.n_programs)


def _to_host(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, (tuple, list)):
        return type(value)(_to_host(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _to_host(getattr(value, f.name)) for f in fields(value)})
    return value


def _like(block: DeviceBlock, value: np.ndarray | Tensor | None, dtype: torch.dtype = torch.float64) -> Any:
    """A value on the block's device."""
    if value is None:
        return None
    return (value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))).to(block.rows.device, dtype)


def _mean_residuals(block: DeviceBlock, mean: MeanScores, values: Tensor, cells: slice) -> Tensor:
    """Residuals in float32, as `MeanScores.residuals`."""
    coef = mean.coef.copy()
    coef[0] -= mean.centre / mean.scale
    centre, inverse = (_like(block, part, torch.float32) for part in (mean.centre, 1 / mean.scale))
    return (values[cells] - centre) * inverse - block.C[cells] @ _like(block, coef, torch.float32)


def _residuals(block: DeviceBlock, normal: Tensor | None, mean: MeanScores, cells: slice) -> Tensor:
    own = _mean_residuals(block, mean, block.Y, cells)
    return own if normal is None else torch.cat([normal[cells], own], 1)


def _wide(block: DeviceBlock, normal: Tensor | None, mean: MeanScores, columns: np.ndarray, cells: slice) -> Tensor:
    """Some columns of the scores in float64, transposed."""
    K, which = block.n_programs, _like(block, columns, torch.int64)
    scale, coef = (_like(block, part) for part in (mean.scale, mean.coef))
    own = which % K
    values = block.Y[cells][:, own].double() / scale[own] - block.C[cells].double() @ coef[:, own]
    if normal is not None:
        values = torch.where(which < K, normal[cells][:, own].double(), values)
    return values.T.contiguous()


def _pieces(n: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, n)) for first in range(0, n, size))


def _probabilities(block: DeviceBlock, beta: np.ndarray, cells: slice = slice(None)) -> Tensor:
    """Propensities in float64, (units, cells)."""
    return torch.sigmoid(_like(block, beta) @ block.columns[:, cells].double())


@cells_block.treated_sums.register
def _(block: DeviceBlock, normal: Any, members: Members) -> Any:
    values, cells = block.rows if normal is None else normal, _like(block, members.cells, torch.int64)
    ends = members.offsets.tolist()
    return torch.stack([values[cells[a:b]].double().sum(0) for a, b in zip(ends, ends[1:], strict=False)])


@cells_block.moment_sums.register
def _(block: DeviceBlock, raw: Any) -> Any:
    y, c = (block.Y if raw is None else _like(block, raw, torch.float32)).double(), block.C.double()
    return c.T @ torch.cat([c, y], 1), y.square().sum(0)


@cells_block.largest_residuals.register
def _(block: DeviceBlock, normal: Any, mean: MeanScores) -> Any:
    return _residuals(block, normal, mean, slice(None)).abs().amax(0).double().cpu().numpy()


@cells_block.logistic_sums.register
def _(block: DeviceBlock, beta: np.ndarray, want_hessian: np.ndarray) -> Any:
    p, columns = _probabilities(block, beta), block.columns.double()
    hessian = columns.new_zeros(*beta.shape, beta.shape[1])
    wanted = np.flatnonzero(want_hessian)
    if wanted.size:
        own = p[_like(block, wanted, torch.int64)]
        weight = own * (1 - own)
        hessian[_like(block, wanted, torch.int64)] = torch.stack([weight @ (columns * row).T for row in columns], 1)
    return p @ columns.T, hessian


@cells_block.propensity_range.register
def _(block: DeviceBlock, beta: np.ndarray, members: Members) -> Any:
    p = _probabilities(block, beta)
    unit = np.repeat(np.arange(len(beta)), np.diff(members.offsets))
    treated = torch.zeros_like(p, dtype=torch.bool)
    treated[_like(block, unit, torch.int64), _like(block, members.cells, torch.int64)] = True
    inside, outside = p.masked_fill(~treated, 2.0).amin(1), p.masked_fill(treated, -1.0).amax(1)
    return torch.stack([p.amin(1), p.sum(1), p.amax(1), inside, outside], 1).cpu().numpy()


@cells_block.null_sums.register
def _(block: DeviceBlock, normal: Any, mean: MeanScores, beta: np.ndarray, n_tested: int) -> Any:
    total: PowerSums | None = None
    for cells in _pieces(len(block), PIECE):
        own = power_sums(_residuals(block, normal, mean, cells), _probabilities(block, beta, cells).float(), n_tested)
        total = own if total is None else total + own
    return total


@cells_block.tilt_sums.register
def _(block: DeviceBlock, normal: Any, mean: MeanScores, tilts: Tilts) -> Any:
    out = []
    for some in _pieces(tilts.s.size, max(1, HELD // len(block))):
        r, p = _wide(block, normal, mean, tilts.column[some], slice(None)), _probabilities(block, tilts.beta[tilts.unit[some]])
        a = _like(block, tilts.s[some]).unsqueeze(1) * r
        log_d = torch.logaddexp(torch.log1p(-p), p.log() + a)
        q = (p.log() + a - log_d).exp()
        v, r2 = q * (1 - q), r * r
        parts = (log_d - p * a, (q - p) * r, v * r2, v * r2 * r * (1 - 2 * q), v * r2 * r2 * (1 - 6 * v))
        out.append(torch.stack([part.sum(1) for part in parts], 1))
    return torch.cat(out)


@cells_block.support_ends.register
def _(block: DeviceBlock, normal: Any, mean: MeanScores, tilts: Tilts) -> Any:
    out = []
    for some in _pieces(tilts.s.size, max(1, HELD // len(block))):
        r, p = _wide(block, normal, mean, tilts.column[some], slice(None)), _probabilities(block, tilts.beta[tilts.unit[some]])
        sign = _like(block, np.sign(tilts.s[some])).unsqueeze(1)
        out.append(torch.stack([((sign * r).clamp_min(0) * (p > 0)).sum(1), (p * r).sum(1)], 1))
    return torch.cat(out)


@cells_block.wide_residuals.register
def _(block: DeviceBlock, normal: Any, mean: MeanScores, columns: np.ndarray, cells: slice) -> Any:
    return _wide(block, normal, mean, columns, cells).cpu().numpy()


@cells_block.residuals.register
def _(block: DeviceBlock, normal: Any, mean: MeanScores, cells: slice) -> Any:
    return _residuals(block, normal, mean, cells).cpu().numpy()


@linear_scores.scores_again.register
def _(block: DeviceBlock, raw: Any, scores: MeanScores) -> Any:
    return _mean_residuals(block, scores, _like(block, raw, torch.float32), slice(None))
