"""fit-hierarchy and score-daywise."""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer

from data_prep.console import run
from data_prep.errors import InputError, first_few, warn
from data_prep.files import writable_folder
from data_prep.read import ScreenKeys, read_screen
from data_prep.screen import NTC_LABELS
from data_prep.tensors import build_fate_data, cached_fate_data
from hierarchy.checks import check_fit
from hierarchy.fit import choose_device, fit
from hierarchy.output import require_arviz, run_record, write_checks, write_effects, write_posterior, write_record, write_table
from hierarchy.scoring import score_daywise
from hierarchy.settings import FitSettings
from hierarchy.summary import check_centred, summarise

_DEFAULT, _KEYS = FitSettings(), ScreenKeys()


def fit_hierarchy(
    screen: Annotated[Path, typer.Argument(help="the screen: .h5ad, .h5mu or .zarr")],
    out: Annotated[Path, typer.Option(help="folder for the results")],
    guide_map: Annotated[Path | None, typer.Option(help="CSV or TSV of guide_name, gene_name, is_ntc [default: uns guide_map or guide2gene]")] = None,
    fate_key: Annotated[str, typer.Option(help="obsm key of the fate probabilities")] = _KEYS.fate,
    guide_key: Annotated[str, typer.Option(help="obsm key, or MuData modality, of the guides")] = _KEYS.guide,
    guide_names_key: Annotated[str, typer.Option(help="uns key of the guide names, where the guides are a bare matrix")] = _KEYS.guide_names,
    day_key: Annotated[str, typer.Option(help="obs key of the day")] = _KEYS.day,
    rep_key: Annotated[str, typer.Option(help="replicate column, in obsm[covar-key] or obs")] = _KEYS.rep,
    covar_key: Annotated[str, typer.Option(help="obsm key of the covariates")] = _KEYS.covar,
    ref_fate: Annotated[str, typer.Option(help="reference fate, the zero of the softmax")] = "EC",
    contrast_fate: Annotated[str, typer.Option(help="fate whose effects are exported")] = "MES",
    ntc_label: Annotated[list[str] | None, typer.Option(help=f"gene label of non-targeting guides; repeatable [default: {', '.join(NTC_LABELS)}]")] = None,
    max_guides_per_cell: Annotated[int, typer.Option(help="cells with more guides are dropped")] = 20,
    posterior: Annotated[Literal["gene_block", "mean_field"], typer.Option(help="posterior family")] = _DEFAULT.posterior,
    likelihood_weight: Annotated[str, typer.Option(help="'auto' (from the Pearson dispersion) or a positive number")] = str(_DEFAULT.likelihood_weight),
    se: Annotated[
        Literal["posterior", "sandwich"], typer.Option(help="errors of the posterior, or robust to noise that cells of a cluster share")
    ] = _DEFAULT.se,
    cluster_key: Annotated[
        str | None, typer.Option(help="columns in obs or obsm[covar-key], joined by '+', whose cells share noise (--se sandwich) [default: each cell alone]")
    ] = None,
    center_guides: Annotated[bool, typer.Option(help="centre guide deviations within genes; off only to show what it mends")] = _DEFAULT.center_guides,
    draws: Annotated[int, typer.Option(help="posterior draws, for posterior.nc and for families without closed-form moments")] = 1000,
    save_posterior: Annotated[bool, typer.Option("--save-posterior", help="also write posterior.nc (needs the arviz extra)")] = False,
    max_steps: Annotated[int | None, typer.Option(help="most steps [default: 60 for gene_block, 20000 for mean_field]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="a .pt file that keeps the tensors between runs")] = None,
    seed: Annotated[int, typer.Option(help="of every random draw")] = _DEFAULT.seed,
) -> None:
    """Fit the guide → gene hierarchy of a screen and write gene_daywise_for_mash.csv."""
    options = {k: str(v) if isinstance(v, Path) else v for k, v in locals().items()}
    settings = FitSettings(
        posterior=posterior, likelihood_weight=_weight(likelihood_weight), se=se, center_guides=center_guides, max_steps=max_steps, seed=seed
    )
    if draws < 2:
        raise InputError(f"--draws is {draws}; it must be at least 2.")
    if cluster_key is not None and se != "sandwich":
        raise InputError("--cluster-key is for --se sandwich.")
    if save_posterior:
        require_arviz()
    chosen = choose_device(device)
    keys = ScreenKeys(fate=fate_key, guide=guide_key, day=day_key, rep=rep_key, covar=covar_key, guide_names=guide_names_key, cluster=cluster_key)
    read = read_screen(screen, keys=keys, guide_map=guide_map, ntc_labels=tuple(ntc_label or NTC_LABELS), max_guides_per_cell=max_guides_per_cell)
    if contrast_fate not in read.fate_names or contrast_fate == ref_fate:
        raise InputError(f"--contrast-fate {contrast_fate!r} must be one of {', '.join(f for f in read.fate_names if f != ref_fate)}.")
    data = build_fate_data(read, ref_fate=ref_fate) if cache is None else cached_fate_data(read, ref_fate=ref_fate, path=cache)
    print(f"{data.n_cells:,} cells, {data.n_guides:,} targeting guides of {data.n_genes:,} genes, {data.n_days} days; MOI {read.moi:.2f}")
    print(f"fates {', '.join(data.fates)}; the first is the reference")
    checkpoint = writable_folder(out) / "checkpoint.pt"
    fitted = fit(data.to(chosen), settings=settings, checkpoint=checkpoint, progress=True)
    effects = summarise(fitted, n_draws=draws)
    check_centred(effects, simulated=read.simulated, centred=center_guides)
    write_effects(effects, out, contrast_fate=contrast_fate)
    checks = check_fit(fitted)
    write_checks(fitted, checks, out)
    if checks.badly_fitted:
        bad = first_few(checks.badly_fitted)
        warn(f"too few cells or fates for a Gaussian posterior in {len(checks.badly_fitted)} genes ({bad}): mistrust them; see check_family_by_gene.csv")
    if save_posterior:
        write_posterior(fitted, out / "posterior.nc", n_draws=draws)
    write_record(run_record(fitted, contrast_fate=contrast_fate, dropped=read.dropped, options=options), out / "run.json")
    checkpoint.unlink(missing_ok=True)
    said = "converged" if fitted.converged else "NOT converged"
    print(f"{said} in {fitted.steps} steps, {fitted.seconds:.1f} s; likelihood weight {fitted.weight:.3g}")
    print(f"results: {out / 'gene_daywise_for_mash.csv'}")


def score(
    table: Annotated[Path, typer.Argument(help="gene_daywise_for_mash.csv")],
    truth: Annotated[Path, typer.Argument(help="truth.csv of the simulation")],
    uncentred: Annotated[Path | None, typer.Option(help="the same table from a fit without centring, to compare")] = None,
    contrast_fate: Annotated[str, typer.Option(help="fate of the truth that the table is of")] = "MES",
    level: Annotated[float, typer.Option(help="nominal coverage of the intervals")] = 0.9,
    out: Annotated[Path | None, typer.Option(help="also write the scores as CSV")] = None,
) -> None:
    """Score daywise effects against a simulation's truth: per day TP, FP, FN, TN, RMSE, correlation, interval coverage."""
    if not 0 < level < 1:
        raise InputError(f"--level is {level}; it must be between 0 and 1.")
    scores = {"centred": _table(table)} | ({} if uncentred is None else {"uncentred": _table(uncentred)})
    known = _table(truth)
    found = pd.concat([score_daywise(t, known, fate=contrast_fate, level=level).assign(fit=name) for name, t in scores.items()])
    print(found.to_string(index=False, float_format=lambda x: f"{x:.4f}"))
    if out is not None:
        write_table(found, out)


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} is not a file.")
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as a CSV: {error}") from error


def _weight(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--likelihood-weight is {text!r}; give 'auto' or a positive number.") from None


def main_fit() -> None:
    """fit-hierarchy."""
    run(fit_hierarchy)


def main_score() -> None:
    """score-daywise."""
    run(score)
