"""Shared by the benchmarks of the hierarchy: simulate a screen, fit it, compare with the truth."""

import os
import warnings
from dataclasses import dataclass

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as data_prep sets it, which is imported after torch here

import numpy as np
import torch

from data_prep import ScreenDesign, ScreenKeys, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import Fit, FitSettings, check_ntc, fit
from hierarchy.self_check import NtcCheck


@dataclass(frozen=True)
class Trial:
    """A fit and the truth of its screen. θ has shape (genes, non-reference fates, days); `estimate` and `se` are the likelihood-type estimates."""

    fitted: Fit
    theta: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    estimate: np.ndarray
    se: np.ndarray
    delta_true: np.ndarray
    ntc: NtcCheck | None

    @property
    def ntc_sd(self):
        return float("nan") if self.ntc is None else self.ntc.table["sd"].iloc[-1]

    @property
    def ntc_warns(self):
        return float("nan") if self.ntc is None else bool(len(self.ntc.wrong))

    @property
    def z(self):
        return (self.mean - self.theta) / self.sd

    @property
    def z_estimate(self):
        return (self.estimate - self.theta) / self.se

    @property
    def null(self):
        return self.theta == 0

    def coverage(self, where=None, level_z=1.6449):
        return covered(self.z if where is None else self.z[where], level_z)

    def null_calls(self, z=1.96):
        own = (self.mean / self.sd)[self.null]
        return float((np.abs(own) > z).mean()) if own.size else float("nan")

    def rmse(self):
        return float(np.sqrt(((self.mean - self.theta) ** 2).mean()))

    def se_ratio(self, sd=None):
        sd = self.sd if sd is None else sd
        return float(np.nanmedian(sd[..., -1] / sd[..., 0]))


def covered(z, level_z=1.6449):
    """Share of |z| below a limit, among those that are numbers."""
    z = z[np.isfinite(z)]
    return float((np.abs(z) < level_z).mean()) if z.size else float("nan")


def trial(design=None, seed=0, change=None, cluster=None, **settings):
    """Simulate a screen, `change` its AnnData, fit it, and return the fit with the truth of the fitted genes."""
    design = design or ScreenDesign()
    screen = simulate_fate_screen(design, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = screen.adata if change is None else change(screen.adata, np.random.default_rng(seed + 10_000))
        read = read_screen(adata, keys=ScreenKeys(cluster=cluster), max_guides_per_cell=40)
        data = build_fate_data(read, ref_fate=design.fates[0])
        fitted = fit(data, settings=FitSettings(seed=seed, **settings))
        ntc = check_ntc(fitted, read, seed=seed)
    names = {g: i for i, g in enumerate(dict.fromkeys(screen.truth["gene"]))}
    order = [names[g] for g in data.genes]
    moments, estimates = fitted.moments(), fitted.estimates()
    se = estimates.theta_covariance.diagonal(dim1=1, dim2=2).reshape(estimates.theta.shape).sqrt()
    return Trial(
        fitted,
        screen.theta[order],
        moments.theta_mean.cpu().numpy(),
        moments.theta_sd.cpu().numpy(),
        estimates.theta.cpu().numpy(),
        se.cpu().numpy(),
        screen.delta,
        ntc,
    )


def quiet():
    """Use at most two threads and ignore the warning that torch's sparse matrices are in beta."""
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(min(int(os.environ.get("OMP_NUM_THREADS", 2)), torch.get_num_threads()))
