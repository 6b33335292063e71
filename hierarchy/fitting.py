"""`FateData` → `Fit`: variational inference to convergence, with checkpoints."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from data_prep.blocks.place import Memory, Place
from data_prep.errors import InputError, first_few, warn
from data_prep.tensors import FateData
from hierarchy.inference.checkpoint import Checkpoint
from hierarchy.inference.gene_block import fit_gene_block
from hierarchy.inference.mean_field import fit_mean_field
from hierarchy.inference.sandwich import check_clusters
from hierarchy.problem import Problem
from hierarchy.result import Fit
from hierarchy.settings import FitSettings, PosteriorName, Priors

FAMILIES: dict[PosteriorName, Callable[..., Fit]] = {"gene_block": fit_gene_block, "mean_field": fit_mean_field}


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" is CUDA where there is a CUDA device, else the CPU.

    Parameters
    ----------
    name
        "auto", "cpu", "cuda" or "cuda:N".

    Returns
    -------
    torch.device
        For `FateData.to`.

    Raises
    ------
    InputError
        If `name` asks for CUDA and there is no CUDA device, or is not a device.

    Examples
    --------
    >>> from hierarchy import choose_device
    >>> choose_device("cpu")
    device(type='cpu')
    """
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name.startswith("cuda") and not available:
        raise InputError(f"the device is {name!r}, but there is no CUDA device. Choose 'cpu' or 'auto'.", "device")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"{name!r} is not a device. Choose 'auto', 'cpu' or 'cuda'.", "device")
    return device


def fit(
    data: FateData,
    *,
    priors: Priors | None = None,
    settings: FitSettings | None = None,
    time_scale: Float[Tensor, "..."] | None = None,
    checkpoint: str | Path | None = None,
    resume: bool | None = None,
    progress: bool = False,
    place: Place | None = None,
) -> Fit:
    """Fit the hierarchy to a screen.

    Parameters
    ----------
    data
        The screen's tensors, on the device to be used.
    priors, settings
        Prior scales, and settings of the fit; by default those of `Priors` and `FitSettings`.
    time_scale
        Positive multipliers of the random walk's steps, (D − 1,), such as the square roots of the gaps between days. All steps then share one σ_time.
    checkpoint
        File for the state of the fit. A stopped fit resumes from it and gives the same results. The caller deletes it.
    resume
        True: a checkpoint of another fit is an error. False: start at the beginning. None: rename a checkpoint of another fit, with a warning.
    progress
        Whether to show a progress bar with the ELBO, on a terminal.
    place
        Where the cells' matrices are: `data_prep.blocks.place.Memory`, `Files` or `Workers` of a cluster; the results are the same.

    Returns
    -------
    Fit
        The posterior and how the fit ended: after a numerical failure `Fit.outcome` has advice and there is no posterior.

    Raises
    ------
    InputError
        If `time_scale`, `batch_cells` or `place` does not go with the screen or the settings, or, with `resume` true, the checkpoint is of another fit.

    Warns
    -----
    ScreenWarning
        If the fit did not converge, or a checkpoint of another fit was renamed.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata)
    >>> from hierarchy import FitSettings, fit, summarise
    >>> summarise(fit(build_fate_data(screen, ref_fate="EC"), settings=FitSettings(seed=1))).gene_table("MES").round(2).tail(1)
        gene  betahat_d0  betahat_d1  se_d0  se_d1
    7  GENE7       -0.01        0.02   0.02   0.02
    """
    began, settings = time.perf_counter(), settings or FitSettings()
    _check(data, settings, time_scale, place or Memory())
    problem = Problem.of(data, priors or Priors(), settings, time_scale=time_scale, place=place)
    fitted = FAMILIES[settings.posterior](problem, Checkpoint(checkpoint, problem, resume=resume), progress=progress)
    return _ended(fitted, time.perf_counter() - began)


def _ended(fitted: Fit, seconds: float) -> Fit:
    """The fit with its duration, and a warning where the steps were too few."""
    if fitted.outcome.status == "step_limit":
        warn(fitted.outcome.advice, *fitted.outcome.arguments)
    return dataclasses.replace(fitted, seconds=seconds)


def _check(data: FateData, settings: FitSettings, time_scale: Tensor | None, place: Place) -> None:
    """Check what depends on both the screen and the settings, and that the cells can be where they are to be."""
    n_steps = data.n_days - 1
    if time_scale is not None and (time_scale.shape != (n_steps,) or not bool(((time_scale > 0) & time_scale.isfinite()).all())):
        raise InputError(f"time_scale must have {n_steps} positive entries, one for each step between days, not {time_scale.tolist()}.", "time_scale")
    if settings.batch_cells is not None and settings.batch_cells > data.n_cells:
        raise InputError(f"batch_cells is {settings.batch_cells}, but the screen has {data.n_cells} cells. Choose fewer, or None for all.", "batch_cells")
    absent = [fate for fate, there in zip(data.fates, (data.fate_prob.amax(0) > 0).tolist(), strict=True) if not there]
    if 0 < len(absent) < data.n_free:
        warn(f"no cell has the fate {first_few(absent)}: effects on it are those of the priors. Leave it out of the fate probabilities.")
    if settings.se == "sandwich":
        check_clusters(data.cluster)
    if not isinstance(place, Memory) and settings.posterior == "mean_field":
        raise InputError("posterior 'mean_field' needs all cells in memory. Choose 'gene_block'.", "posterior")
    if not isinstance(place, Memory) and data.device.type != "cpu":
        raise InputError(f"the device is {data.device.type!r}, but cells in files or on a cluster are for the CPU. Choose 'cpu'.", "device")
