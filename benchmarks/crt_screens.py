"""Screens of which the truth is known, by assumptions that differ from those of the test: how usage is distributed, how many cells are treated, what confounds.

A gene multiplies the rates of its programs by exp(effect), in all of its treated cells or in some. From rates to usage there are several ways. The sizes of
the effects are uniform between half and all of `effect`. The screens of `screen.make_screen`, in which all effects have one size, are among them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import crt_common
import numpy as np
import scipy.sparse as sp
from screen import Screen, clr, design, make_screen

from crt import CRTInputs
from data_prep.outcomes import clr_usage

GENES, PROGRAMS, BATCHES = 60, 20, 6
Usage = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The design of a screen.

    `treated` are the fewest and the most treated cells that are expected of a gene. `usage(rng, log_rate, batch)` draws the usage of all cells, (cells,
    programs). With `confounding` s, the odds of each gene differ between batches by exp(s·normal) and depend on depth, and rates differ between batches.
    `responding` is the share of the treated cells in which the effect occurs.
    """

    usage: Usage
    effect: float
    genes: int = GENES
    programs: int = PROGRAMS
    treated: tuple[int, int] = (100, 800)
    cells: int = 10_000
    confounding: float = 0.0
    responding: float = 1.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """The inputs of the test and the true effects, (genes, programs)."""

    inputs: CRTInputs
    effect: np.ndarray


def draw(plan: Plan, seed: int) -> Drawn:
    """Draw a screen: six batches and two numbers as covariates, one guide per gene, a fifth of the genes with effects on three programs."""
    rng = np.random.default_rng([seed, 11])
    n, s, genes, programs = plan.cells, plan.confounding, plan.genes, plan.programs
    batch, numbers = rng.integers(0, BATCHES, n), rng.normal(size=(n, 2))
    share = np.exp(rng.uniform(*np.log(plan.treated), genes)) / n
    odds = np.exp(s * rng.normal(size=(BATCHES, genes)))[batch] * np.exp(0.5 * s * np.outer(numbers[:, 0], rng.normal(size=genes)))
    x = rng.random((n, genes)) < np.minimum(share * odds / odds.mean(0), 0.9)
    effect = np.zeros((genes, programs))
    for gene in rng.choice(genes, genes // 5, replace=False):
        effect[gene, rng.choice(programs, 3, replace=False)] = plan.effect * rng.uniform(0.5, 1, 3) * rng.choice([-1.0, 1.0], 3)
    log_rate = (x & (rng.random(x.shape) < plan.responding)) @ effect + numbers @ rng.normal(0, 0.25, (2, programs))
    log_rate += (0.2 + 0.4 * s) * rng.normal(size=(BATCHES, programs))[batch] + rng.normal(0, 0.5, programs)
    Y = clr_usage(plan.usage(rng, log_rate, batch))
    C = np.column_stack([np.ones(n), *(batch == b for b in range(1, BATCHES)), numbers])
    guides = Screen(sp.csr_matrix(x.astype(np.float32)), np.arange(genes), *(np.empty(0),) * 7)
    return Drawn(crt_common.inputs_of(guides, C, Y), effect)


def baseline(confounding: float, seed: int) -> Drawn:
    """A screen of `screen.make_screen`: a normal distribution of log-rates, and 15 % of the entries a millionth."""
    sizes = {"n_cells": 10_000, "n_genes": GENES, "guides_per_gene": 4, "n_ntc": 60, "n_programs": PROGRAMS}
    s = make_screen(**sizes, frac_active=0.2, usage_effect=0.6, confounding=confounding, seed=seed)
    return Drawn(crt_common.inputs_of(s, design(s.covariates), clr(s.usage)), s.usage_effect)


def shares(rate: np.ndarray) -> np.ndarray:
    """Rows divided by their sums."""
    return rate / rate.sum(1, keepdims=True)


def _dirichlet(concentration: float) -> Usage:
    """Dirichlet usage; the concentration of a program is that at a rate of 1."""
    return lambda rng, log_rate, batch: shares(np.maximum(rng.standard_gamma(concentration * np.exp(log_rate)), 1e-12))


def _gamma_with_zeros(rng: np.random.Generator, log_rate: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Gamma activities, exactly zero with a probability that falls with the rate and differs between batches, as non-negative factorisations give them."""
    on = rng.random(log_rate.shape) < 1 / (1 + np.exp(-log_rate - np.linspace(-0.8, 0.8, BATCHES)[batch][:, None]))
    return shares(rng.standard_gamma(2.0, log_rate.shape) * np.exp(log_rate) * on + 1e-9 * (on.sum(1, keepdims=True) == 0))


def _softmax(noise: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]) -> Usage:
    """Log-rates with additive noise."""
    return lambda rng, log_rate, batch: shares(np.exp(log_rate + noise(rng, log_rate.shape)))


SPARSE = _dirichlet(0.1)
NORMAL = _softmax(lambda rng, shape: rng.normal(0, 0.5, shape))
STUDENT = _softmax(lambda rng, shape: 0.3 * rng.standard_t(2.0, shape))

KINDS: dict[str, Callable[[int], Drawn]] = {
    "near-zero entries": lambda seed: baseline(0.0, seed),
    "sparse Dirichlet, 0.1": lambda seed: draw(Plan(usage=SPARSE, effect=0.8), seed),
    "gamma, half exact zeros": lambda seed: draw(Plan(usage=_gamma_with_zeros, effect=0.5), seed),
    "dense, normal": lambda seed: draw(Plan(usage=NORMAL, effect=0.15), seed),
    "dense Dirichlet, 10": lambda seed: draw(Plan(usage=_dirichlet(10.0), effect=0.1), seed),
    "dense, 10 % of cells respond": lambda seed: draw(Plan(usage=NORMAL, effect=2.0, responding=0.1), seed),
    "heavy-tailed": lambda seed: draw(Plan(usage=STUDENT, effect=0.2), seed),
    "20–100 treated, sparse": lambda seed: draw(Plan(usage=SPARSE, effect=2.0, treated=(20, 100)), seed),
    "20–100 treated, dense": lambda seed: draw(Plan(usage=NORMAL, effect=0.6, treated=(20, 100)), seed),
    "confounded, near-zero entries": lambda seed: baseline(1.0, seed),
    "confounded, sparse": lambda seed: draw(Plan(usage=SPARSE, effect=0.8, confounding=1.0), seed),
    "confounded, zeros": lambda seed: draw(Plan(usage=_gamma_with_zeros, effect=0.5, confounding=1.0), seed),
    "confounded, dense": lambda seed: draw(Plan(usage=NORMAL, effect=0.15, confounding=1.0), seed),
}
