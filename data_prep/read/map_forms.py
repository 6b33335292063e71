"""Guide maps in the columns that SCEPTRE and Cell Ranger give them, brought to guide_name, gene_name, is_ntc."""

from collections.abc import Collection

import pandas as pd

from data_prep.errors import InputError, first_few, warn

FORMS = (
    "guide_name and gene_name (and maybe is_ntc); SCEPTRE's grna_id and grna_target; "
    "or Cell Ranger's feature reference with id, feature_type and target_gene_name"
)
_GUIDE_CAPTURE = "CRISPR Guide Capture"


def in_our_columns(frame: pd.DataFrame, *, ntc_labels: Collection[str], where: str) -> pd.DataFrame:
    """The map in our columns; a table of no known form comes back as it is.

    SCEPTRE's `grna_target_data_frame` has `grna_id` and `grna_target`. Of Cell Ranger's `feature_reference.csv` the rows of the type CRISPR Guide Capture
    are taken, `id` is the guide, as in `protospacer_calls_per_cell.csv`, and `target_gene_name` the gene; a target "Non-Targeting" in any case is an NTC, and
    guides with the target "Ignore" are left out with a warning. Other columns are left.
    """
    columns = [str(name) for name in frame.columns]
    if "guide_name" in columns or "gene_name" in columns:
        return frame
    if {"grna_id", "grna_target"} <= set(columns):
        _once(columns, ("grna_id", "grna_target"), where)
        return frame.rename(columns={"grna_id": "guide_name", "grna_target": "gene_name"})[["guide_name", "gene_name"]]
    if {"id", "feature_type", "target_gene_name"} <= set(columns):
        _once(columns, ("id", "feature_type", "target_gene_name"), where)
        return _of_feature_reference(frame, {*ntc_labels, "non-targeting"}, where)
    return frame


def _of_feature_reference(frame: pd.DataFrame, ntc_labels: Collection[str], where: str) -> pd.DataFrame:
    kinds = frame["feature_type"].astype(object)
    guides = frame[(kinds == _GUIDE_CAPTURE).to_numpy()]
    if guides.empty:
        found = first_few(dict.fromkeys(kinds)) or "no rows"
        raise InputError(f"{where} has no row of the feature_type {_GUIDE_CAPTURE!r}, but {found}. Give the feature reference that lists the guides.")
    target = guides["target_gene_name"].astype(object).where(guides["target_gene_name"].notna(), "").map(lambda gene: str(gene).strip().lower())
    ignored = (target == "ignore").to_numpy()
    if ignored.any():
        warn(f"{where}: {int(ignored.sum())} guides have the target 'Ignore' and were left out: {first_few(guides['id'][ignored])}")
    made = pd.DataFrame({"guide_name": guides["id"], "gene_name": guides["target_gene_name"]})
    made["is_ntc"] = target.isin([label.lower() for label in ntc_labels]).to_numpy()
    return made[~ignored]


def _once(columns: list[str], names: tuple[str, ...], where: str) -> None:
    for name in names:
        if (n := columns.count(name)) > 1:
            raise InputError(f"{where} has {n} columns {name!r}. Keep one.")
