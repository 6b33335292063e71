"""Screens without effects, either calibrated or with a known cause of miscalibration, on which the verdict of the diagnostics is tested.

The thresholds of the verdict are set on the kinds in `TUNING`, and the verdict is scored on those in `SCORING`, which have other causes, sizes or parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from crt import CRTInputs, StratifiedPermutation, UnitSettings
from crt.inputs import make_inputs
from crt.layout import empty_rows
from data_prep import GuideMap

BURDEN = "burden"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The design of a screen: sizes, guide assignment and outcomes.

    Each cell has three traits z, shape (N, 3), of which the first two are covariates. `tilt(z, batch)` multiplies the expected number of guides of each cell.
    `ntc_tilt(z, batch, burden, j)` is the relative frequency of NTC guide j in each cell. `curve(z, batch, burden)` is added to the outcomes; `noise` draws
    their residuals, with an SD of `batch_sd` in batch 0. With `bound`, each guide is in one of the first `bound` batches only. A share |clones| of the cells are
    pairs with the same guides, whose residuals are equal, or opposite if `clones` is negative: the variance of sums over treated cells is 1 + clones times that
    of independent cells. With `active`, the first NTC guide shifts every outcome by so many SDs.
    """

    cells: int = 3000
    programs: int = 12
    genes: int = 20
    guides_per_gene: int = 3
    ntc_guides: int = 45
    moi: float = 3.0
    batches: int = 2
    ntc_rarity: float = 1.0
    one_guide: bool = False
    tilt: Callable[..., np.ndarray] | None = None
    ntc_tilt: Callable[..., np.ndarray] | None = None
    fill_batches: int = 0
    curve: Callable[..., np.ndarray] | None = None
    noise: Callable[..., np.ndarray] | None = None
    bound: int = 0
    batch_sd: float = 1.0
    clones: float = 0.0
    active: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of screen: its correct verdict, that without resamples where it differs, its design, and the settings of the run."""

    truth: str
    plan: Plan
    exact: str | None = None
    group_size: int | None = None
    sampler: StratifiedPermutation | None = None
    options: dict[str, object] = field(default_factory=dict)

    def settings(self, seed: int, B: int = 499) -> UnitSettings:
        extra = {"sampler": self.sampler} if self.sampler else {}
        return UnitSettings(n_resamples=B, seed=seed, **extra, **self.options)

    def saddlepoint(self, seed: int) -> UnitSettings:
        """The settings of the commands' default test, which has no resamples."""
        return replace(self.settings(seed), method="saddlepoint", statistic="cauchy")


def make(plan: Plan, seed: int) -> CRTInputs:
    """Draw a screen."""
    rng = np.random.default_rng([seed, 2024])
    n, n_real = plan.cells, plan.genes * plan.guides_per_gene
    z, batch = rng.normal(size=(n, 3)), rng.integers(0, plan.batches, n)
    guides = _guides(plan, rng, z, batch)
    first, second = rng.permutation(n)[: 2 * round(abs(plan.clones) * n / 2)].reshape(2, -1)
    source = np.arange(n)
    source[second] = first
    guides = sp.csc_matrix(guides.tocsr()[source])
    burden = np.log1p(np.diff(guides[:, :n_real].tocsr().indptr))
    gene = np.array([f"G{g:03d}" for g in np.repeat(np.arange(plan.genes), plan.guides_per_gene)] + ["non-targeting"] * plan.ntc_guides, dtype=object)
    raw = pd.DataFrame({"batch": [f"b{b:02d}" for b in batch], "z0": z[:, 0], "z1": z[:, 1], BURDEN: burden})
    columns = [np.ones(n), *((batch == b).astype(float) for b in range(1, plan.batches)), *z.T[:2]]
    names = ["1", *(f"batch{b}" for b in range(1, plan.batches)), "z0", "z1"]
    if burden.std() > 0 and not plan.one_guide:
        columns.append((burden - burden.mean()) / burden.std())
        names.append(BURDEN)
    C = np.column_stack(columns)
    Y = C[:, 1:] @ rng.normal(0, 0.3, (C.shape[1] - 1, plan.programs))
    if plan.curve is not None:
        Y += plan.curve(z, batch, burden)[:, None] * rng.choice([-1.0, 1.0], plan.programs)
    mix = np.eye(plan.programs) + 0.3 * rng.normal(size=(plan.programs, plan.programs)) / np.sqrt(plan.programs)
    noise = (plan.noise(rng, (n, plan.programs)) if plan.noise else rng.normal(size=(n, plan.programs))) * np.where(batch == 0, plan.batch_sd, 1.0)[:, None]
    noise[second] = np.sign(plan.clones) * noise[first]
    Y += noise @ mix + plan.active * guides[:, [n_real]].toarray()
    rows = empty_rows(*C.shape, Y.shape[1])
    rows[:, : C.shape[1]], rows[:, C.shape[1] :][:, : Y.shape[1]] = C, Y
    inputs = make_inputs(
        rows,
        guides=guides,
        guide_map=GuideMap(guide=np.array([f"g{i:04d}" for i in range(gene.size)], dtype=object), gene=gene, is_ntc=np.arange(gene.size) >= n_real),
        program_names=[f"p{k}" for k in range(plan.programs)],
        covar_names=names,
        cells=np.array([f"c{i}" for i in range(n)], dtype=object),
        control_group="ntc_cells" if plan.one_guide else "complement",
    )
    return replace(inputs, covar_df_raw=raw, batch_raw=raw["batch"])


def _guides(plan: Plan, rng: np.random.Generator, z: np.ndarray, batch: np.ndarray) -> sp.csc_matrix:
    n, n_real = plan.cells, plan.genes * plan.guides_per_gene
    n_guides = n_real + plan.ntc_guides
    weight = rng.lognormal(0.0, 0.4, n_guides)
    weight[n_real:] *= plan.ntc_rarity
    if plan.one_guide:
        rate = np.ones(n) if plan.tilt is None else plan.tilt(z, batch)
        shift = np.outer(np.log(rate), rng.normal(0, 1, n_guides)) if plan.tilt is not None else 0.0
        pick = (np.log(weight) + shift + rng.gumbel(size=(n, n_guides))).argmax(1)
        return sp.csc_matrix((np.ones(n), (np.arange(n), pick)), shape=(n, n_guides))
    rate = np.ones(n) if plan.tilt is None else plan.tilt(z, batch)
    odds = np.outer(rate / rate.mean(), plan.moi * weight / weight.sum())
    if plan.bound:
        odds *= plan.batches * (batch[:, None] == rng.integers(0, plan.bound, n_guides))
    there = rng.random((n, n_guides)) < -np.expm1(-odds)
    if plan.ntc_tilt is not None:
        burden = np.log1p(there[:, :n_real].sum(1))
        for j in range(n_real, n_guides):
            tilt = plan.ntc_tilt(z, batch, burden, j - n_real)
            there[:, j] = rng.random(n) < np.minimum(0.98, odds[:, j].mean() * tilt / tilt.mean())
    for j in range(plan.fill_batches):  # an NTC guide that is in every cell of a batch
        there[batch == j % plan.batches, n_real + j] = True
    return sp.csc_matrix(there)


def _mild(z: np.ndarray, batch: np.ndarray) -> np.ndarray:
    return np.exp(0.5 * z[:, 0] + 0.3 * (batch % 2))


def _stepwise(z: np.ndarray, batch: np.ndarray, burden: np.ndarray, j: int) -> np.ndarray:
    """Guides that occur almost only above a threshold of a covariate."""
    return np.where(z[:, 0] > 1.9, 1.0, 1e-5)


def _curved(z: np.ndarray, batch: np.ndarray, burden: np.ndarray, j: int) -> np.ndarray:
    """Guides that are more frequent at both ends of a covariate, unlike in a logistic model."""
    return np.exp(1.2 * (np.abs(z[:, 0]) - 0.8))


def _burden_curve(z: np.ndarray, batch: np.ndarray, burden: np.ndarray, j: int) -> np.ndarray:
    """Guides that are more frequent in cells with low or high burden."""
    return np.exp(1.2 * bent(burden))


def bent(burden: np.ndarray) -> np.ndarray:
    """A nonlinear function of the burden without linear part, with unit SD."""
    x = (burden - burden.mean()) / burden.std()
    curve = np.minimum(x * x, 4.0)
    curve = curve - np.polyval(np.polyfit(x, curve, 1), x)
    return curve / curve.std()


def _heavy(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Outcomes with an eight times larger SD in 2 % of the cells."""
    return rng.normal(size=shape) * np.where(rng.random(shape) < 0.02, 8.0, 1.0)


def _z_curve(z: np.ndarray, batch: np.ndarray, burden: np.ndarray) -> np.ndarray:
    return 0.8 * (np.abs(z[:, 0]) - 0.8)


def _b_curve(z: np.ndarray, batch: np.ndarray, burden: np.ndarray) -> np.ndarray:
    return 0.7 * bent(burden)


def _heavier(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Outcomes with a twelve times larger SD in 1 % of the cells."""
    return rng.normal(size=shape) * np.where(rng.random(shape) < 0.01, 12.0, 1.0)


def _student(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_t(6, size=shape)


def _ends(z: np.ndarray, batch: np.ndarray, burden: np.ndarray, j: int) -> np.ndarray:
    """Guides that are most frequent at middle values of the second covariate."""
    return np.exp(-0.8 * z[:, 1] ** 2)


def _middle(z: np.ndarray, batch: np.ndarray, burden: np.ndarray) -> np.ndarray:
    return 0.5 * np.minimum(z[:, 1] ** 2, 4.0)


def _hidden_group(z: np.ndarray, batch: np.ndarray, burden: np.ndarray, j: int) -> np.ndarray:
    return np.where(z[:, 2] > 1, 3.0, 1.0)


MANY, FEW = {"ntc_guides": 180, "programs": 20}, {"ntc_guides": 12}
BOUND = {"cells": 4800, "moi": 0.6, "bound": 1}
TUNING: dict[str, Kind] = {
    "4 batches, pairs of guides": Kind(truth="calibrated", plan=Plan(cells=2500, programs=16, guides_per_gene=2, ntc_guides=40, batches=4)),
    "tilted by the second covariate": Kind(truth="calibrated", plan=Plan(cells=2000, batches=8, tilt=lambda z, b: np.exp(0.6 * z[:, 1]))),
    "tilted, permuted": Kind(truth="calibrated", plan=Plan(tilt=lambda z, b: np.exp(0.6 * z[:, 1])), sampler=StratifiedPermutation(n_bins=10)),
    "low MOI, 60 NTC guides": Kind(truth="calibrated", plan=Plan(one_guide=True, cells=4000, ntc_guides=60, batches=3)),
    "MOI 0.8": Kind(truth="calibrated", plan=Plan(moi=0.8, cells=4000, ntc_guides=50)),
    "Student t noise": Kind(truth="calibrated", plan=Plan(noise=_student)),
    "clones, 2 % of the SD": Kind(truth="calibrated", plan=Plan(**MANY, clones=0.04)),
    "clones, 14 % of the SD": Kind(truth="unexplained", plan=Plan(**MANY, clones=0.3)),
    "opposite pairs, 12 % of the SD": Kind(truth="unexplained", plan=Plan(**MANY, clones=-0.22)),
    "clones, 9 NTC guides": Kind(truth="inconclusive", plan=Plan(ntc_guides=9, clones=0.1)),
    "10 NTC guides": Kind(truth="inconclusive", plan=Plan(ntc_guides=10, batches=4)),
    "low MOI, 5 NTC guides": Kind(truth="inconclusive", plan=Plan(one_guide=True, ntc_guides=5, ntc_rarity=3.0)),
    "D: 4 NTC guides": Kind(truth="D", exact="inconclusive", plan=Plan(moi=0.6, ntc_guides=4, noise=_heavier)),
    "bound to 3 of 10 batches, SD 2": Kind(truth="calibrated", plan=Plan(**BOUND | {"bound": 3}, batches=10, batch_sd=2.0)),
    "bound to 1 of 4 batches, SD 0.5": Kind(truth="calibrated", plan=Plan(**BOUND, batches=4, batch_sd=0.5)),
    "A: few cells": Kind(truth="A", plan=Plan(ntc_rarity=0.02, ntc_guides=40)),
    "A: guides in every cell of 6 batches": Kind(truth="A", plan=Plan(batches=12, fill_batches=18)),
    "B: a threshold of the second covariate": Kind(truth="B", plan=Plan(ntc_tilt=lambda z, b, h, j: np.where(z[:, 1] < -2, 1.0, 1e-5))),
    "B: middle values": Kind(truth="B", plan=Plan(ntc_tilt=_ends, curve=_middle)),
    "B: constant propensity": Kind(
        truth="B", plan=Plan(tilt=lambda z, b: np.exp(0.7 * z[:, 1]), curve=lambda z, b, h: 0.6 * z[:, 1] ** 2), options={"propensity_mode": "oracle_const"}
    ),
    "C: groups of 5": Kind(truth="C", plan=Plan(), group_size=5),
    "C: groups of 2 for genes of 4": Kind(truth="C", plan=Plan(guides_per_gene=4, genes=15), group_size=2),
    "hidden groups of cells": Kind(truth="unexplained", plan=Plan(ntc_tilt=_hidden_group, curve=lambda z, b, h: 1.5 * (z[:, 2] > 1))),
    "D: heavier tails": Kind(truth="D", exact="calibrated", plan=Plan(moi=0.6, ntc_guides=50, noise=_heavier)),
}
SCORING: dict[str, Kind] = {
    "high MOI, 2 batches": Kind(truth="calibrated", plan=Plan()),
    "high MOI, 20 batches": Kind(truth="calibrated", plan=Plan(batches=20)),
    "high MOI, confounded": Kind(truth="calibrated", plan=Plan(tilt=_mild)),
    "high MOI, confounded, permuted": Kind(truth="calibrated", plan=Plan(tilt=_mild), sampler=StratifiedPermutation()),
    "low MOI": Kind(truth="calibrated", plan=Plan(one_guide=True)),
    "low MOI, confounded": Kind(truth="calibrated", plan=Plan(one_guide=True, tilt=lambda z, b: np.exp(0.5 * z[:, 0]))),
    "rare guides": Kind(truth="calibrated", plan=Plan(moi=0.5, ntc_guides=60)),
    "burden curve, burden bins": Kind(
        truth="calibrated",
        plan=Plan(ntc_guides=60, ntc_tilt=_burden_curve, curve=_b_curve),
        sampler=StratifiedPermutation(burden_key=BURDEN, n_bins=4, n_burden_bins=16, burden_bin_method="uniform"),
    ),
    "A: near-empty groups": Kind(truth="A", plan=Plan(ntc_rarity=0.01, ntc_guides=30)),
    "A: groups that are batches": Kind(truth="A", plan=Plan(batches=20, fill_batches=30, ntc_rarity=1e-9, ntc_guides=30)),
    "A: a guide in every cell of a batch": Kind(truth="A", plan=Plan(batches=20, fill_batches=10, ntc_guides=30)),
    "B: separated": Kind(truth="B", plan=Plan(ntc_tilt=_stepwise)),
    "B: curved assignment": Kind(truth="B", plan=Plan(ntc_tilt=_curved, curve=_z_curve)),
    "B: burden curve, Bernoulli": Kind(truth="B", plan=Plan(ntc_tilt=_burden_curve, curve=_b_curve)),
    "B: confounded, constant propensity": Kind(
        truth="B", plan=Plan(tilt=lambda z, b: np.exp(0.8 * z[:, 0]), curve=_z_curve), options={"propensity_mode": "oracle_const"}
    ),
    "C: groups too large": Kind(truth="C", plan=Plan(), group_size=6),
    "C: groups too small": Kind(truth="C", plan=Plan(), group_size=1),
    "C: all NTC guides": Kind(truth="C", plan=Plan(), group_size=45),
    "hidden confounder": Kind(truth="unexplained", plan=Plan(ntc_tilt=lambda z, b, h, j: np.exp(0.8 * z[:, 2]), curve=lambda z, b, h: 0.8 * z[:, 2])),
    "D: heavy tails": Kind(truth="D", exact="calibrated", plan=Plan(moi=0.6, ntc_guides=60, noise=_heavy)),
    "SD -10 %, many groups": Kind(truth="unexplained", plan=Plan(**MANY, clones=0.235)),
    "SD +10 %, many groups": Kind(truth="unexplained", plan=Plan(**MANY, clones=-0.174)),
    "SD -10 %, few groups": Kind(truth="inconclusive", plan=Plan(**FEW, clones=0.235)),
    "SD +10 %, few groups": Kind(truth="inconclusive", plan=Plan(**FEW, clones=-0.174)),
    "bound to 1 of 6 batches, SD 0.6": Kind(truth="calibrated", plan=Plan(**BOUND, batches=6, batch_sd=0.6)),
    "bound to 1 of 6 batches, SD 3": Kind(truth="calibrated", plan=Plan(**BOUND, batches=6, batch_sd=3.0)),
    "bound to 1 of 16 batches, SD 0.6": Kind(truth="calibrated", plan=Plan(**BOUND, batches=16, batch_sd=0.6)),
    "bound to 1 of 16 batches, SD 3": Kind(truth="calibrated", plan=Plan(**BOUND, batches=16, batch_sd=3.0)),
    "bound to 4 of 16 batches, SD 3": Kind(truth="calibrated", plan=Plan(**BOUND | {"bound": 4}, batches=16, batch_sd=3.0)),
    "two groups": Kind(truth="inconclusive", plan=Plan(one_guide=True, ntc_guides=6, ntc_rarity=2.0)),
    "3 NTC guides": Kind(truth="inconclusive", plan=Plan(one_guide=True, ntc_guides=3, ntc_rarity=4.0, programs=3)),
    "3 NTC guides, high MOI": Kind(truth="inconclusive", plan=Plan(ntc_guides=3, guides_per_gene=4)),
    "an NTC guide with effects": Kind(truth="unexplained", plan=Plan(active=1.0, ntc_guides=60)),
    "lognormal noise": Kind(truth="calibrated", plan=Plan(noise=lambda rng, shape: rng.lognormal(0.0, 0.5, shape))),
}
KINDS = TUNING | SCORING
