"""Files of hits: the fit's files that they are called from, and the tables that are written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from data_prep.errors import InputError, first_few
from fatescreen.runs.folder import RECORD
from fatescreen.runs.tables import write_table
from hierarchy.mash.hits import HitEstimates, Hits, contrast_covariance, contrast_weights

ESTIMATES, GENES, GUIDES = "effects.csv", "theta_covariance.npz", "guide_estimates.npz"
FIT_AGAIN = "Run fit-hierarchy again, and give its output folder."


def read_hit_estimates(folder: Path) -> list[HitEstimates]:
    """The estimates of each contrast that `fit-hierarchy` has written to a folder: effects.csv, theta_covariance.npz, guide_estimates.npz.

    Parameters
    ----------
    folder
        Output folder of `fit-hierarchy`.

    Returns
    -------
    list of HitEstimates
        One for each contrast.

    Raises
    ------
    InputError
        If the folder has no complete fit, or a file in it cannot be read or belongs to another fit.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from hierarchy import read_hit_estimates
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_hit_estimates(Path(folder))
    Traceback (most recent call last):
    ...
    data_prep.errors.InputError: ... has no run.json of fit-hierarchy. Run fit-hierarchy again, and give its output folder.
    """
    _check_record(folder)
    table = _read(folder / ESTIMATES, _long_table)
    genes, guides = (_read(folder / name, _arrays) for name in (GENES, GUIDES))
    try:
        return [_estimates(str(contrast), i, table, genes, guides) for i, contrast in enumerate(guides["contrasts"])]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{ESTIMATES}, {GENES} and {GUIDES} in {folder} do not belong to the same fit, or one was changed ({error}). {FIT_AGAIN}") from error


def read_joint_covariance(folder: Path, contrasts: Sequence[str]) -> Float[np.ndarray, "genes size size"]:
    """Covariances of the errors of each gene over days and these contrasts of a fit, contrast by contrast."""
    genes = _read(folder / GENES, _arrays)
    fates = _fates(genes)
    weights = np.stack([contrast_weights(*_split(contrast, fates), fates) for contrast in contrasts])
    if np.linalg.matrix_rank(weights) < len(weights):
        raise InputError(f"the contrasts {', '.join(contrasts)} follow from each other, so they can't be analysed jointly. Choose fewer.", "contrast_fate")
    return contrast_covariance(genes["covariance"], weights)


def _fates(genes: Mapping[str, np.ndarray]) -> list[str]:
    """The fates of a fit, the reference first."""
    return [str(genes["reference"][0]), *map(str, genes["fates"])]


def _check_record(folder: Path) -> None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        command = record.get("command") if isinstance(record, dict) else None
    except (OSError, ValueError):
        command = None
    if command != "fit-hierarchy":
        raise InputError(f"{folder} has no {RECORD} of fit-hierarchy. {FIT_AGAIN}")


def _read(path: Path, reader: Any) -> Any:
    try:
        return reader(path)
    except MemoryError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing: it was removed, or the fit is of an earlier version. {FIT_AGAIN}") from None
    except Exception as error:  # zip files and tables that are cut or of another format raise many kinds
        raise InputError(f"{path} can't be read: {error}. {FIT_AGAIN}") from error


def _long_table(path: Path) -> pd.DataFrame:
    """effects.csv, in which only numbers may be missing: a gene may be called NA."""
    return pd.read_csv(path, keep_default_na=False, dtype={"gene": str, "contrast": str, "day": str}, na_values={"betahat": [""]})


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as held:  # closed also where it is no archive
        return dict(held)


def _estimates(contrast: str, i: int, table: pd.DataFrame, genes: Mapping[str, np.ndarray], guides: Mapping[str, np.ndarray]) -> HitEstimates:
    """The estimates of one contrast, "A:B"."""
    names, days, fates = genes["genes"].astype(object), tuple(map(str, genes["days"])), _fates(genes)
    own = table[table["contrast"] == contrast]
    shape = (len(names), len(days))
    if own["gene"].tolist() != np.repeat(names, len(days)).tolist() or own["day"].tolist() != list(days) * len(names):
        raise ValueError(f"the genes or days of {contrast} differ")
    position = {name: g for g, name in enumerate(names)}
    return HitEstimates(
        contrast=contrast,
        days=days,
        genes=names,
        betahat=own["betahat"].to_numpy(np.float64).reshape(shape),
        covariance=contrast_covariance(genes["covariance"], contrast_weights(*_split(contrast, fates), fates)),
        cells=own["n_cells"].to_numpy(np.int64).reshape(shape),
        guides=guides["guides"].astype(object),
        gene_of_guide=np.array([position[name] for name in guides["genes"]]),
        guide_betahat=guides["betahat"][i],
        guide_covariance=guides["covariance"][i],
        left_out=guides["left_out"][i],
        left_out_covariance=guides["left_out_covariance"][i],
    )


def _split(contrast: str, fates: Sequence[str]) -> tuple[str, str]:
    """The two fates of "A:B", whose names may hold colons."""
    return next((a, b) for a in fates for b in fates if f"{a}:{b}" == contrast)


def chosen(found: Sequence[HitEstimates], contrasts: Sequence[str] | None) -> list[HitEstimates]:
    """The contrasts of these names, "A:B" or "A" alone; all of them without names."""
    if not contrasts:
        return list(found)
    by_name = {own.contrast.partition(":")[0]: own for own in reversed(found)} | {own.contrast: own for own in found}
    if unknown := [name for name in contrasts if name not in by_name]:
        there = ", ".join(own.contrast for own in found)
        raise InputError(f"the fit has no contrast {first_few(map(repr, unknown))}; it has {there}. Fit with the contrast to add it.", "contrast_fate")
    return [by_name[name] for name in contrasts]


def write_hits(hits: Sequence[Hits], out: Path) -> list[Path]:
    """Write hits.csv, mash_gene.csv, mash_guide.csv and mash_weights.csv, with the rows of all contrasts; a file is complete or absent.

    Parameters
    ----------
    hits
        Results of `call_hits`, one for each contrast.
    out
        Output folder; created if missing.

    Returns
    -------
    list of pathlib.Path
        The files.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> adata = simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=20, n_days=2), seed=0).adata
    >>> from hierarchy import call_hits, fit, hit_estimates, write_hits
    >>> estimates = hit_estimates(fit(build_fate_data(read_screen(adata), ref_fate="EC")), "MES")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     print([path.name for path in write_hits([call_hits(estimates, covariances="canonical")], Path(folder))])
    ['hits.csv', 'mash_gene.csv', 'mash_guide.csv', 'mash_weights.csv']
    """
    tables = {
        "hits.csv": [own.table for own in hits],
        "mash_gene.csv": [own.gene_table() for own in hits],
        "mash_guide.csv": [own.guide_table() for own in hits],
        "mash_weights.csv": [own.weight_table() for own in hits],
    }
    for name, parts in tables.items():
        write_table(pd.concat(parts, ignore_index=True), out / name)
    return [out / name for name in tables]
