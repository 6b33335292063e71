"""Guide maps: which gene each guide targets, and which guides are non-targeting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import InputError, first_few
from data_prep.read.keys import NTC_LABELS
from data_prep.read.labels import text_names
from data_prep.read.map_forms import FORMS, in_our_columns
from data_prep.read.text_table import open_table

_TRUE, _FALSE = {"true", "1", "1.0", "yes", "t"}, {"false", "0", "0.0", "no", "f"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuideMap:
    """Which gene each guide targets, and which guides are non-targeting (NTC).

    The three arrays are parallel, with one entry a guide.

    Attributes
    ----------
    guide
        Names of the guides, each once.
    gene
        The gene that each guide targets; an NTC guide's is its label.
    is_ntc
        Whether each guide is non-targeting.

    Raises
    ------
    InputError
        Where a guide stands twice (with one gene or two), a targeting guide has no gene, or the arrays differ in length.

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

    guide: np.ndarray
    gene: np.ndarray
    is_ntc: np.ndarray

    def __post_init__(self) -> None:
        """Check that every guide stands once, with a gene."""
        if not len(self.guide) == len(self.gene) == len(self.is_ntc):
            raise InputError(f"the guide map has {len(self.guide)} guides, {len(self.gene)} genes and {len(self.is_ntc)} NTC marks. Give one of each a guide.")
        names, count = np.unique(self.guide, return_counts=True)
        if (count > 1).any():
            repeated = names[count > 1]
            genes = {g: sorted(set(self.gene[self.guide == g])) for g in repeated[:5]}
            two = any(len(v) > 1 for v in genes.values())
            said = "; ".join(f"{g} → {', '.join(v)}" for g, v in genes.items())
            problem = "maps a guide to two genes" if two else "lists a guide twice"
            raise InputError(f"the guide map {problem}: {said} ({repeated.size} in all). Keep one row for each guide.")
        lost = ~self.is_ntc & np.array([not str(gene).strip() for gene in self.gene], dtype=bool)
        if lost.any():
            raise InputError(f"the guide map has no gene_name for the targeting guides {first_few(self.guide[lost])}. Give each a gene, or set is_ntc.")

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, ntc_labels: Sequence[str] = NTC_LABELS, where: str = "the guide map") -> "GuideMap":
        """From columns `guide_name`, `gene_name` and (optional) `is_ntc`; `where` names the source in errors.

        Without `is_ntc`, a guide is NTC where its gene is one of `ntc_labels`, in any case. The columns of SCEPTRE's `grna_target_data_frame` and of
        Cell Ranger's `feature_reference.csv` are known too: see `data_prep.read.map_forms.in_our_columns`.
        """
        labels = {label.lower() for label in ([ntc_labels] if isinstance(ntc_labels, str) else ntc_labels)}
        frame = in_our_columns(frame, ntc_labels=labels, where=where)
        for column in ("guide_name", "gene_name"):
            if column not in frame.columns:
                raise InputError(f"{where} has no column {column!r}; it has: {first_few(frame.columns, 20)}. It needs {FORMS}.")
        for column in ("guide_name", "gene_name", "is_ntc"):
            if (n := list(frame.columns).count(column)) > 1:
                raise InputError(f"{where} has {n} columns {column!r}. Keep one.")
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
                f"{gene[clash][0]!r}, an NTC label. Set is_ntc, or change the NTC labels."
            )
        return cls(guide=guide, gene=gene, is_ntc=is_ntc)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str], *, ntc_labels: Sequence[str] = NTC_LABELS, where: str = "the guide map") -> "GuideMap":
        """From a dict of guide → gene, where a gene in `ntc_labels` marks an NTC guide; `where` names the source in errors."""
        several = [guide for guide, gene in mapping.items() if not pd.api.types.is_scalar(gene)]
        if several:
            raise InputError(f"{where} gives no single gene for {first_few(several)}. It must be guide → gene, both text (in a file, without '/').")
        frame = pd.DataFrame({"guide_name": list(mapping), "gene_name": list(mapping.values())}, dtype=object)
        return cls.from_frame(frame, ntc_labels=ntc_labels, where=where)

    @classmethod
    def from_file(cls, path: str | Path, *, ntc_labels: Sequence[str] = NTC_LABELS) -> "GuideMap":
        """From a CSV or tab-separated file, plain or gzip; its columns are those of `from_frame`."""
        if not isinstance(path, (str, Path)):
            raise InputError(f"the guide map is a {type(path).__name__}; it must be a path, a DataFrame or a GuideMap.")
        table = open_table(path, what="the guide map", give="Give a CSV or TSV with guide_name, gene_name, is_ntc.")
        rows = [[field or None for field in fields] for _, fields in table.rows()]
        return cls.from_frame(pd.DataFrame(rows, columns=table.header, dtype=object), ntc_labels=ntc_labels, where=str(path))

    def to_frame(self) -> pd.DataFrame:
        """As a table with columns `guide_name`, `gene_name`, `is_ntc`."""
        return pd.DataFrame({"guide_name": self.guide, "gene_name": self.gene, "is_ntc": self.is_ntc})


def _as_bool(column: pd.Series, guide: np.ndarray, where: str) -> np.ndarray:
    text = column.astype(str).str.strip().str.lower()
    known = text.isin(_TRUE | _FALSE).to_numpy()
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        raise InputError(f"{where}: is_ntc of guide {guide[row]} is {column.iloc[row]!r} ({int((~known).sum())} such rows); use True or False.")
    return text.isin(_TRUE).to_numpy()
