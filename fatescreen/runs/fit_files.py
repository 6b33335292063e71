"""The files of a run, each written whole or not at all."""

import dataclasses
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data_prep.errors import InputError
from data_prep.files import atomic
from fatescreen.figures.fit import fit_figure
from hierarchy.effects import DaywiseEffects
from hierarchy.fitting import Fit
from hierarchy.predictive_checks import Checks


def write_effects(effects: DaywiseEffects, out: Path, *, contrast_fate: str) -> list[Path]:
    """Write the tables of one free fate and the summaries of all, each file whole or not at all.

    Parameters
    ----------
    effects
        Of `summarise`.
    out
        The folder; made if need be.
    contrast_fate
        The fate of the tables.

    Returns
    -------
    list of pathlib.Path
        gene_daywise_for_mash.csv, guide_daywise_for_mash.csv, qc_delta_mean_by_gene.csv, qc_theta_beta_offset_by_gene.csv,
        theta_posterior_summary.npz, delta_posterior_summary.npz.

    Raises
    ------
    InputError
        Where the fate is not a free fate.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata
    >>> data = build_fate_data(read_screen(adata), ref_fate="EC")
    >>> from hierarchy import fit, summarise, write_effects
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print([path.name for path in write_effects(summarise(fit(data)), Path(folder), contrast_fate="MES")][:2])
    ['gene_daywise_for_mash.csv', 'guide_daywise_for_mash.csv']
    """
    tables = {
        "gene_daywise_for_mash.csv": effects.gene_table(contrast_fate),
        "guide_daywise_for_mash.csv": effects.guide_table(contrast_fate),
        "qc_delta_mean_by_gene.csv": effects.qc_delta(contrast_fate),
        "qc_theta_beta_offset_by_gene.csv": effects.qc_offset(contrast_fate),
    }
    for name, table in tables.items():
        write_table(table, out / name)
    names = {"fates": np.array(effects.fates), "days": np.array(effects.days)}
    theta: dict[str, Any] = {"mean": effects.theta_mean, "sd": effects.theta_sd, "genes": effects.genes.astype(str), **names}
    delta: dict[str, Any] = {
        "mean": effects.delta_mean,
        "sd": effects.delta_sd,
        "guides": effects.guides.astype(str),
        "genes": effects.gene_of_guide.astype(str),
        "fates": names["fates"],
    }
    for name, arrays in (("theta_posterior_summary.npz", theta), ("delta_posterior_summary.npz", delta)):
        with atomic(out / name) as temporary:
            np.savez(temporary, **arrays)
    return [out / name for name in [*tables, "theta_posterior_summary.npz", "delta_posterior_summary.npz"]]


def write_checks(fit: Fit, checks: Checks, out: Path) -> None:
    """Write the predictive checks, the scales, the family's fit and the figure of a fit.

    Parameters
    ----------
    fit
        Of `hierarchy.fit`.
    checks
        Of `check_fit`.
    out
        The folder; made if need be. It gets check_composition.csv, check_top_genes.csv, scales.csv, check_family_by_gene.csv (with "gene_block")
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
    with atomic(out / "fit.png") as temporary:
        fit_figure(fit, checks).savefig(temporary, dpi=110)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """A CSV with ten significant digits."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.10g", lineterminator="\n")


def require_arviz() -> None:
    """Raise unless ArviZ, which posterior.nc needs, is installed."""
    if find_spec("arviz") is None:
        raise InputError("posterior.nc needs ArviZ: pip install 'fatescreen[arviz]'.")


def write_posterior(fit: Fit, path: Path, *, n_draws: int) -> None:
    """Write joint posterior draws as an ArviZ dataset (netCDF) with coordinates gene, guide, fate, day.

    Parameters
    ----------
    fit
        Of `hierarchy.fit`.
    path
        The file, `posterior.nc`.
    n_draws
        How many draws.

    Raises
    ------
    InputError
        Where ArviZ is not installed (`pip install 'fatescreen[arviz]'`).

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
    import arviz

    data, draws = fit.model.data, fit.draws(n_draws)
    f, d = data.n_free, data.n_days
    values = {
        "theta": draws.theta,
        "delta": draws.delta,
        "tau": draws.scales[..., 0],
        "sigma_time": draws.scales[..., 1:d],
        "sigma_guide": draws.scales[..., d],
        "alpha": draws.nuisance[..., :d],
        "b": draws.nuisance[..., d:-1],
        "gamma": draws.nuisance[..., -1],
    }
    dims = {
        "theta": ["gene", "fate", "day"],
        "delta": ["guide", "fate"],
        "tau": ["fate"],
        "sigma_time": ["fate", "step"],
        "sigma_guide": ["fate"],
        "alpha": ["fate", "day"],
        "b": ["fate", "rep"],
        "gamma": ["fate"],
    }
    if d == 1:
        del values["sigma_time"], dims["sigma_time"]
    coords = {
        "gene": list(data.genes),
        "guide": list(data.guides),
        "fate": list(data.fates[1:]),
        "day": list(data.days),
        "step": list(data.days[1:]),
        "rep": list(data.reps),
    }
    used = {name for own in dims.values() for name in own}
    found = arviz.from_dict(
        posterior={k: v.unsqueeze(0).cpu().numpy() for k, v in values.items()}, dims=dims, coords={k: v for k, v in coords.items() if k in used}
    )
    assert f == len(coords["fate"])
    for group in found.groups():
        found[group].attrs.pop("created_at", None)  # the same draws, the same bytes
    with atomic(path) as temporary:
        found.to_netcdf(str(temporary))


def fit_record(fit: Fit, *, contrast_fate: str, dropped: Mapping[str, object]) -> dict[str, Any]:
    """What `run.json` says of a fit; nothing in it varies between two runs of one input, seed and settings."""
    data = fit.model.data
    return {
        "settings": dataclasses.asdict(fit.settings),
        "priors": dataclasses.asdict(fit.model.priors),
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
        "contrast_fate": contrast_fate,
        "day_columns": {label: f"d{i}" for i, label in enumerate(data.days)},
        "likelihood_weight": fit.weight,
        "dispersion": 1 / fit.weight,
        "converged": fit.converged,
        "steps": fit.steps,
        "elbo": {"best": max(fit.elbo, default=None), "trace": list(fit.elbo), "weights": list(fit.weights)},
    }
