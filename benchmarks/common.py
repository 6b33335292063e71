"""Shared by the benchmarks of the hierarchy: simulate a screen, fit it, compare with the truth."""

import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import Fit, FitSettings, fit


@dataclass(frozen=True)
class Trial:
    """A fit and the truth of its screen. θ has shape (genes, non-reference fates, days)."""

    fitted: Fit
    theta: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    delta_true: np.ndarray

    @property
    def z(self):
        return (self.mean - self.theta) / self.sd

    @property
    def null(self):
        return self.theta == 0

    def coverage(self, where=None, level_z=1.6449):
        z = self.z if where is None else self.z[where]
        return float((np.abs(z) < level_z).mean()) if z.size else float("nan")

    def null_calls(self, z=1.96):
        own = (self.mean / self.sd)[self.null]
        return float((np.abs(own) > z).mean()) if own.size else float("nan")

    def rmse(self):
        return float(np.sqrt(((self.mean - self.theta) ** 2).mean()))

    def se_ratio(self):
        return float(np.median(self.sd[..., -1] / self.sd[..., 0]))


def trial(design=None, seed=0, **settings):
    """Simulate a screen, fit it, and return the fit with the truth of the fitted genes."""
    design = design or ScreenDesign()
    screen = simulate_fate_screen(design, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_screen(screen.adata, max_guides_per_cell=40)
        data = build_fate_data(read, ref_fate=design.fates[0])
        fitted = fit(data, settings=FitSettings(seed=seed, **settings))
    names = {g: i for i, g in enumerate(dict.fromkeys(screen.truth["gene"]))}
    order = [names[g] for g in data.genes]
    moments = fitted.moments()
    return Trial(fitted, screen.theta[order], moments.theta_mean.cpu().numpy(), moments.theta_sd.cpu().numpy(), screen.delta)


def quiet():
    """Use at most two threads and ignore the warning that torch's sparse matrices are in beta."""
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(min(int(os.environ.get("OMP_NUM_THREADS", 2)), torch.get_num_threads()))
