"""Guide maps: which gene each guide targets, and which guides are non-targeting; also from tables of SCEPTRE and Cell Ranger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Shaped

from data_prep.errors import InputError, first_few, warn
from data_prep.read.keys import NTC_LABELS
from data_prep.read.labels import text_names
from data_prep.read.text_table import open_table

FORMS = (
    "guide_name and gene_name (and optionally is_ntc), or the same under names such as sgRNA, gRNA or guide and gene, target or target_gene; SCEPTRE's grna_id "
    "and grna_target; or Cell Ranger's feature reference with id, feature_type and target_gene_name"
)
GUIDE_NAMES = frozenset({"guide_name", "guide", "guide_id", "grna", "grna_id", "grna_name", "sgrna", "sgrna_id", "sgrna_name"})
GENE_NAMES = frozenset({"gene_name", "gene", "gene_symbol", "target", "target_gene", "target_gene_name", "grna_target", "gene_target"})
_GUIDE_CAPTURE = "CRISPR Guide Capture"
_TRUE, _FALSE = {"true", "1", "1.0", "yes", "t"}, {"false", "0", "0.0", "no", "f"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuideMap:
    """Which gene each guide targets, and which guides are non-targeting (NTC).

    Attributes
    ----------
    guide
        Names of the guides, each once, (guides,).
    gene
        Gene of each guide, (guides,); for an NTC guide its label.
    is_ntc
        Whether each guide is non-targeting, bool (guides,).

    Raises
    ------
    InputError
        If a guide is listed twice (with one gene or two), a targeting guide has no gene, or the arrays differ in length.

    Examples
    --------
    >>> from data_prep import GuideMap
    >>> guide_map = GuideMap.from_mapping({"A_g1": "A", "A_g2": "A", "NTC_1": "non-targeting"})
    >>> guide_map.to_frame()
      guide_name      gene_name  is_ntc
    0       A_g1              A   False
    1       A_g2              A   False
    2      NTC_1  non-targeting    True
    """

    guide: Shaped[np.ndarray, " guides"]
    gene: Shaped[np.ndarray, " guides"]
    is_ntc: Bool[np.ndarray, " guides"]

    def __post_init__(self) -> None:
        """Check that every guide is listed once, with a gene."""
        if not len(self.guide) == len(self.gene) == len(self.is_ntc):
            sizes = f"{len(self.guide)} guides, {len(self.gene)} genes and {len(self.is_ntc)} NTC marks"
            raise InputError(f"the guide map has {sizes}. Give one of each for every guide.")
        names, count = np.unique(self.guide, return_counts=True)
        if (count > 1).any():
            repeated = names[count > 1]
            genes = {g: sorted(set(self.gene[self.guide == g])) for g in repeated[:5]}
            two = any(len(v) > 1 for v in genes.values())
            examples = "; ".join(f"{g} → {', '.join(v)}" for g, v in genes.items())
            problem = "maps a guide to two genes" if two else "lists a guide twice"
            raise InputError(f"the guide map {problem}: {examples} ({repeated.size} in all). Keep one row for each guide.")
        lost = ~self.is_ntc & np.array([not str(gene).strip() for gene in self.gene], dtype=bool)
        if lost.any():
            raise InputError(f"the guide map has no gene_name for the targeting guides {first_few(self.guide[lost])}. Give each a gene, or set is_ntc.")

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, ntc_labels: Sequence[str] = NTC_LABELS, where: str = "the guide map") -> "GuideMap":
        """A guide map from a table; `where` is its name in error messages.

        The table has columns `guide_name`, `gene_name` and optionally `is_ntc`; without `is_ntc`, a guide is NTC if its gene is one of `ntc_labels`, in any
        case. Other usual names of the two columns are known (`sgRNA`, `gRNA`, `guide`; `gene`, `target`, `target_gene`), and two other forms. In SCEPTRE's
        `grna_target_data_frame`, `grna_id` is the guide and `grna_target` the gene. In Cell Ranger's `feature_reference.csv`, rows of the type CRISPR Guide
        Capture are used: `id` is the guide, as in `protospacer_calls_per_cell.csv`, and `target_gene_name` the gene; guides with the target "Non-Targeting" in
        any case are NTC, and guides with the target "Ignore" are left out with a warning.
        """
        labels = {label.lower() for label in ([ntc_labels] if isinstance(ntc_labels, str) else ntc_labels)}
        frame = _in_our_columns(frame, labels, where)
        for column in ("guide_name", "gene_name"):
            if column not in frame.columns:
                raise InputError(f"{where} has no column {column!r}; it has: {first_few(frame.columns, 20)}. It needs {FORMS}.")
        _once(list(frame.columns), ("guide_name", "gene_name", "is_ntc"), where)
        if frame.empty:
            raise InputError(f"{where} has no rows. Give one for each guide.")
        unnamed = frame["guide_name"].isna().to_numpy()
        if unnamed.any():
            raise InputError(f"{where} has no guide_name in rows {first_few(np.flatnonzero(unnamed))}. Name or delete them.")
        guide = text_names(frame["guide_name"], where=f"guide_name of {where}")
        gene = text_names(frame["gene_name"].astype(object).where(frame["gene_name"].notna(), ""), where=f"gene_name of {where}")
        labelled = np.array([name.lower() in labels for name in gene], dtype=bool)
        is_ntc = _as_bool(frame["is_ntc"], guide, where) if "is_ntc" in frame.columns else labelled
        clash = labelled & ~is_ntc
        if clash.any():
            raise InputError(
                f"{where} calls {first_few(guide[clash])} targeting (is_ntc false) but gives the gene as "
                f"{gene[clash][0]!r}, an NTC label. Set is_ntc, or change the NTC labels.",
                "ntc_labels",
            )
        return cls(guide=guide, gene=gene, is_ntc=is_ntc)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str], *, ntc_labels: Sequence[str] = NTC_LABELS, where: str = "the guide map") -> "GuideMap":
        """A guide map from guide → gene, with NTC guides where the gene is in `ntc_labels`; `where` is its name in error messages."""
        several = [guide for guide, gene in mapping.items() if not pd.api.types.is_scalar(gene)]
        if several:
            raise InputError(f"{where} gives no single gene for {first_few(several)}. It must be guide → gene, both text (in a file, without '/').")
        frame = pd.DataFrame({"guide_name": list(mapping), "gene_name": list(mapping.values())}, dtype=object)
        return cls.from_frame(frame, ntc_labels=ntc_labels, where=where)

    @classmethod
    def from_file(cls, path: str | Path, *, ntc_labels: Sequence[str] = NTC_LABELS) -> "GuideMap":
        """A guide map from a CSV or tab-separated file, plain or gzip, with the columns of `from_frame`."""
        if not isinstance(path, (str, Path)):
            raise InputError(f"the guide map is a {type(path).__name__}; it must be a path, a DataFrame or a GuideMap.")
        table = open_table(path, what="the guide map", give="Give a CSV or TSV with guide_name, gene_name, is_ntc.")
        rows = [[field or None for field in fields] for _, fields in table.rows()]
        return cls.from_frame(pd.DataFrame(rows, columns=table.header, dtype=object), ntc_labels=ntc_labels, where=str(path))

    def to_frame(self) -> pd.DataFrame:
        """The guide map as a table with columns `guide_name`, `gene_name`, `is_ntc`."""
        return pd.DataFrame({"guide_name": self.guide, "gene_name": self.gene, "is_ntc": self.is_ntc})


def _as_bool(column: pd.Series, guide: np.ndarray, where: str) -> np.ndarray:
    text = column.astype(str).str.strip().str.lower()
    known = text.isin(_TRUE | _FALSE).to_numpy()
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        raise InputError(f"{where}: is_ntc of guide {guide[row]} is {column.iloc[row]!r} ({int((~known).sum())} such rows); use True or False.")
    return text.isin(_TRUE).to_numpy()


def _in_our_columns(frame: pd.DataFrame, ntc_labels: Collection[str], where: str) -> pd.DataFrame:
    """A table of SCEPTRE or Cell Ranger with columns guide_name, gene_name and is_ntc; other tables unchanged."""
    columns = [str(name) for name in frame.columns]
    if "guide_name" in columns or "gene_name" in columns:
        return frame
    if {"grna_id", "grna_target"} <= set(columns):
        _once(columns, ("grna_id", "grna_target"), where)
        return frame.rename(columns={"grna_id": "guide_name", "grna_target": "gene_name"})[["guide_name", "gene_name"]]
    if {"id", "feature_type", "target_gene_name"} <= set(columns):
        _once(columns, ("id", "feature_type", "target_gene_name"), where)
        return _from_feature_reference(frame, {*ntc_labels, "non-targeting"}, where)
    found = {ours: [name for name in columns if name.lower() in known] for ours, known in (("guide_name", GUIDE_NAMES), ("gene_name", GENE_NAMES))}
    for ours, names in found.items():
        if len(names) > 1:
            raise InputError(f"{where} has {len(names)} columns that may be {ours}: {first_few(names)}. Rename the one to use to {ours}.")
    return frame.rename(columns={names[0]: ours for ours, names in found.items() if names})


def _from_feature_reference(frame: pd.DataFrame, ntc_labels: Collection[str], where: str) -> pd.DataFrame:
    kinds = frame["feature_type"].astype(object)
    guides = frame[(kinds == _GUIDE_CAPTURE).to_numpy()]
    if guides.empty:
        found = first_few(dict.fromkeys(kinds)) or "no rows"
        raise InputError(f"{where} has no row of the feature_type {_GUIDE_CAPTURE!r}, but {found}. Give the feature reference that lists the guides.")
    target = guides["target_gene_name"].astype(object).where(guides["target_gene_name"].notna(), "").map(lambda gene: str(gene).strip().lower())
    ignored = (target == "ignore").to_numpy()
    if ignored.any():
        warn(f"{where}: {int(ignored.sum())} guides have the target 'Ignore' and were left out: {first_few(guides['id'][ignored])}")
    table = pd.DataFrame({"guide_name": guides["id"], "gene_name": guides["target_gene_name"]})
    table["is_ntc"] = target.isin([label.lower() for label in ntc_labels]).to_numpy()
    return table[~ignored]


def _once(columns: Sequence[str], names: Sequence[str], where: str) -> None:
    for name in names:
        if (n := columns.count(name)) > 1:
            raise InputError(f"{where} has {n} columns {name!r}. Keep one.")
