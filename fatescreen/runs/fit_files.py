"""Files of a fit: effects, checks, posterior draws, record."""

import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.errors import InputError
from data_prep.files import atomic
from fatescreen.figures import fit_figure
from fatescreen.figures.style import own_style
from fatescreen.runs.tables import write_table
from hierarchy.between_days import day_contrasts
from hierarchy.effects import DaywiseEffects
from hierarchy.inference.gene_block import GeneBlock
from hierarchy.left_out import GuideEstimates
from hierarchy.predictive_checks import Checks
from hierarchy.result import Fit
from hierarchy.self_check import Controls


def write_effects(effects: DaywiseEffects, out: Path, *, contrast_fate: str | Sequence[str]) -> list[Path]:
    """Write the tables of contrasts of fates and the summaries of all non-reference fates; a file is complete or absent.

    Parameters
    ----------
    effects
        Result of `summarise`.
    out
        Output folder; created if missing.
    contrast_fate
        Contrast of fates, "A" (against the reference) or "A:B", or several of them: effects.csv and day_contrasts.csv have all, the other tables the first.

    Returns
    -------
    list of pathlib.Path
        Seven tables (.csv) and three archives of arrays (.npz), which docs/outputs.md describes.

    Raises
    ------
    InputError
        When `contrast_fate` names an unknown fate.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata)
    >>> from hierarchy import fit, summarise, write_effects
    >>> effects = summarise(fit(build_fate_data(screen, ref_fate="EC")))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print([path.name for path in write_effects(effects, Path(folder), contrast_fate="MES")][:2])
    ['gene_daywise_for_mash.csv', 'guide_daywise_for_mash.csv']
    """
    contrasts = [contrast_fate] if isinstance(contrast_fate, str) else list(contrast_fate)
    first = contrasts[0]
    tables = {
        "gene_daywise_for_mash.csv": effects.gene_table(first),
        "guide_daywise_for_mash.csv": effects.guide_table(first),
        "gene_daywise_posterior.csv": effects.gene_posterior_table(first),
        "guide_daywise_posterior.csv": effects.guide_posterior_table(first),
        "effects.csv": effects.long_table(contrasts),
        "day_contrasts.csv": day_contrasts(effects, contrasts),
        "qc_delta_mean_by_gene.csv": effects.qc_delta(first),
        "qc_theta_beta_offset_by_gene.csv": effects.qc_offset(first),
    }
    for name, table in tables.items():
        write_table(table, out / name)
    archives = _archives(effects, first)
    for name, arrays in archives.items():
        _write_arrays(arrays, out / name)
    return [out / name for name in [*tables, *archives]]


def _archives(effects: DaywiseEffects, contrast: str) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of each .npz file, by file; `contrast` is that of gene_daywise_for_mash.csv."""
    names = {"fates": np.array(effects.fates), "days": np.array(effects.days)}
    theta: dict[str, Any] = {"mean": effects.theta_mean, "sd": effects.theta_sd, "genes": effects.genes.astype(str), **names}
    delta: dict[str, Any] = {
        "mean": effects.delta_mean,
        "sd": effects.delta_sd,
        "guides": effects.guides.astype(str),
        "genes": effects.gene_of_guide.astype(str),
        "fates": names["fates"],
    }
    covariance: dict[str, Any] = {
        "covariance": effects.theta_estimate_covariance,
        "genes": theta["genes"],
        **names,
        "reference": np.array([effects.reference]),
        "contrast": effects.contrast_weights(contrast),
    }
    return {"theta_covariance.npz": covariance, "theta_posterior_summary.npz": theta, "delta_posterior_summary.npz": delta}


def write_guide_estimates(guides: GuideEstimates, effects: DaywiseEffects, out: Path) -> None:
    """Write guide_estimates.npz: the estimates by guide, and of genes without each guide, that `call-hits` reads.

    Parameters
    ----------
    guides
        Result of `summarise_guides`.
    effects
        Result of `summarise`, for the names.
    out
        Output folder; created if missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> from hierarchy import fit, summarise, summarise_guides, write_guide_estimates
    >>> fitted = fit(build_fate_data(read_screen(adata), ref_fate="EC"))
    >>> effects = summarise(fitted)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_guide_estimates(summarise_guides(fitted, ["MES"]), effects, Path(folder))
    ...     print([path.name for path in Path(folder).iterdir()])
    ['guide_estimates.npz']
    """
    arrays = {
        "contrasts": np.array(guides.contrasts),
        "guides": effects.guides.astype(str),
        "genes": effects.gene_of_guide.astype(str),
        "days": np.array(effects.days),
        "betahat": guides.beta,
        "covariance": guides.beta_covariance,
        "left_out": guides.left_out,
        "left_out_covariance": guides.left_out_covariance,
    }
    _write_arrays(arrays, out / "guide_estimates.npz")


def _write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write an .npz whose entries have plain ZIP headers, which R's `unz` reads too; those of `numpy.savez` are of ZIP64."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            held = io.BytesIO()
            np.lib.format.write_array(held, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), held.getvalue())  # with a fixed date


def write_checks(fit: Fit, checks: Checks, out: Path) -> None:
    """Write the predictive checks, the scale parameters, the check of the Gaussian posterior and the figure of a fit.

    Parameters
    ----------
    fit
        Result of `hierarchy.fit`.
    checks
        Result of `check_fit`.
    out
        Output folder; created if missing. It receives check_composition.csv, check_top_genes.csv, scales.csv, check_family_by_gene.csv (with "gene_block")
        and fit.png.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import check_fit, fit, write_checks
    >>> fitted = fit(data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checks(fitted, check_fit(fitted), Path(folder))
    ...     print(sorted(path.name for path in Path(folder).iterdir()))
    ['check_composition.csv', 'check_family_by_gene.csv', 'check_top_genes.csv', 'fit.png', 'scales.csv']
    """
    write_table(checks.composition, out / "check_composition.csv")
    write_table(checks.genes, out / "check_top_genes.csv")
    write_table(checks.scales, out / "scales.csv")
    if checks.family is not None:
        write_table(checks.family, out / "check_family_by_gene.csv")
    with atomic(out / "fit.png") as temporary, own_style():
        fit_figure(fit, checks).savefig(temporary, dpi=110)


def require_arviz() -> None:
    """Raise an `InputError` unless ArviZ, which posterior.nc needs, is installed."""
    if find_spec("arviz") is None:
        raise InputError("posterior.nc needs ArviZ: pip install 'fatescreen[arviz]'.")


def write_posterior(fit: Fit, path: Path, *, n_draws: int) -> None:
    """Write joint posterior draws as an ArviZ dataset (netCDF) with coordinates gene, guide, fate, day.

    Parameters
    ----------
    fit
        Result of `hierarchy.fit`.
    path
        Path of the file, for example `posterior.nc`.
    n_draws
        Number of draws.

    Raises
    ------
    InputError
        When ArviZ is not installed (`pip install 'fatescreen[arviz]'`).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit, write_posterior
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_posterior(fit(data), Path(folder) / "posterior.nc", n_draws=10)
    ...     print((Path(folder) / "posterior.nc").stat().st_size > 0)
    True
    """
    require_arviz()
    found = _posterior_dataset(fit, n_draws)
    for group in found.groups():
        found[group].attrs.pop("created_at", None)  # the same draws give the same bytes
    with atomic(path) as temporary:
        found.to_netcdf(str(temporary))


def _posterior_dataset(fit: Fit, n_draws: int) -> Any:
    """Draws of every parameter as an `arviz.InferenceData` of one chain."""
    import arviz

    data, draws = fit.model.data, fit.draws(n_draws)
    d = data.n_days
    parameters = {
        "theta": (draws.theta, ["gene", "fate", "day"]),
        "delta": (draws.delta, ["guide", "fate"]),
        "tau": (draws.scales[..., 0], ["fate"]),
        "sigma_time": (draws.scales[..., 1:-1], ["fate", "step"]),
        "sigma_guide": (draws.scales[..., -1], ["fate"]),
        "alpha": (draws.nuisance[..., :d], ["fate", "day"]),
        "b": (draws.nuisance[..., d:-1], ["fate", "rep"]),
        "gamma": (draws.nuisance[..., -1], ["fate"]),
    }
    coords = {
        "gene": list(data.genes),
        "guide": list(data.guides),
        "fate": list(data.fates[1:]),
        "day": list(data.days),
        "step": list(data.days[1:]) if fit.model.time_scale is None else ["all"],
        "rep": list(data.reps),
    }
    if d == 1:
        del parameters["sigma_time"], coords["step"]
    values = {name: value.unsqueeze(0).cpu().numpy() for name, (value, _) in parameters.items()}
    return arviz.from_dict(posterior=values, dims={name: dims for name, (_, dims) in parameters.items()}, coords=coords)


def controls_record(controls: Controls) -> dict[str, Any]:
    """Record of the checks on the screen's own controls for `run.json`."""
    record: dict[str, Any] = {"ntc_check": None, "permutation_check": None}
    if controls.ntc is not None:
        rows = controls.ntc.table.set_index("day").to_dict("index")
        record["ntc_check"] = {"days": rows, "factor": controls.ntc.factor, "calibrated": controls.calibrated}
    if controls.permuted is not None:
        record["permutation_check"] = dataclasses.asdict(controls.permuted)
    return record


def _scale_points(fit: Fit) -> dict[str, float] | None:
    """How many points the scales were integrated at, and their effective number 1/Σ weight²."""
    if not isinstance(fit.posterior, GeneBlock):
        return None
    weights = fit.posterior.integration_points(fit.settings.n_scale_nodes, seed=fit.settings.seed)[1]
    return {"points": len(weights), "effective": float(1 / weights.square().sum())}


def fit_record(fit: Fit, *, contrast_fate: Sequence[str], dropped: Mapping[str, object]) -> dict[str, Any]:
    """Record of a fit for `run.json`, the same for two runs of the same input, seed and settings."""
    data = fit.model.data
    return {
        "settings": dataclasses.asdict(fit.settings),
        "priors": dataclasses.asdict(fit.model.priors),
        "time_scale": None if fit.model.time_scale is None else fit.model.time_scale.tolist(),
        "device": str(data.device),
        "threads": torch.get_num_threads(),
        "input": {
            "fingerprint": data.fingerprint,
            "cells": data.n_cells,
            "targeting_guides": data.n_guides,
            "genes": data.n_genes,
            "replicates": list(data.reps),
            "dropped": dict(dropped),
        },
        "reference_fate": data.fates[0],
        "contrast_fate": list(contrast_fate),
        "day_columns": {label: f"d{i}" for i, label in enumerate(data.days)},
        "scale_points": _scale_points(fit),
        "likelihood_weight": fit.weight,
        "likelihood_weights": {day: dict(zip(data.reps, row, strict=True)) for day, row in zip(data.days, fit.weight_table.tolist(), strict=True)},
        "dispersion": 1 / fit.weight,
        "converged": fit.converged,
        "steps": fit.steps,
        "elbo": {"best": max(fit.elbo, default=None), "trace": list(fit.elbo), "weights": list(fit.weights)},
    }
