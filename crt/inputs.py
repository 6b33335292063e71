"""The inputs of the test: `CRTInputs`, and its preparation from an AnnData."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int, Shaped

from crt.layout import empty_rows, moments, ntc_only
from crt.read import covariates_of, guide_map_of, in_order, storable, usage_of
from data_prep.design import encode_covariates
from data_prep.errors import InputError, warn
from data_prep.outcomes import all_rows, check_outcome, check_usage, clr_usage
from data_prep.read.container import open_view
from data_prep.read.guide_map import NTC_LABELS, GuideMap
from data_prep.read.guides import presence
from data_prep.read.screen import read_guides

ControlGroup = Literal["complement", "ntc_cells"]
MultipleGuides = Literal["keep", "drop"]
CONTROL_GROUPS = ("complement", "ntc_cells")
BURDEN = "log1p_other_guides"  # the covariate of burden="others"
LOW_MOI = 1.5  # mean number of guides per cell below which the complement is not a valid control group


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CRTInputs:
    """Inputs of the test: a screen of N cells, K programs and p covariates (columns of the design). Read-only, shared by all units and workers.

    Made by `prepare_crt_inputs`.

    Attributes
    ----------
    rows
        Covariates and outcomes by cell, float32 (N, width), C-contiguous: p covariates (the intercept first), K outcomes, and zeros up to a multiple of 16.
        A sum over treated cells is one pass over their rows; `C` and `Y` are views of it.
    columns
        The covariates, transposed, for the propensity: float32 (p, N).
    gram
        C'C over all cells, float64 (p, p).
    cross
        C'Y over all cells, float64 (p, K).
    ntc_gram
        C'C over the NTC cells, float64 (p, p); zeros where they are not the controls.
    ntc_cross
        C'Y over the NTC cells, float64 (p, K); zeros where they are not the controls.
    guides
        Presence of guides in cells, CSC (N, guides).
    guide_names
        Names of the guides, (guides,), in the order of the columns.
    guide2gene
        Gene of each guide by name; that of an NTC guide is its label.
    gene_to_cols
        Columns of `guides` for each gene.
    ntc_cols
        Columns of the NTC guides.
    program_names
        Names of the outcomes, the columns of `Y`.
    covar_names
        Names of the covariates, the columns of `C`.
    covar_df_raw
        The covariate table as given; None where an array was given. `C` does not depend on it.
    batch_raw
        The batch column of that table; None without one.
    control_group
        Cells that a unit is compared with: "complement" or "ntc_cells".
    ntc_cells
        Cells that carry guides, all of them NTC; int32, ascending.
    all_cells
        All cells, 0 to N − 1, int32.
    cells
        Names of the cells, (N,).
    n_several
        Number of cells that were left out because they carry guides of several genes.
    n_guides
        Number of guides in each cell, NTC guides aside, (N,), if the last covariate is the burden of other guides; else None. `without_own` makes the design
        of a unit.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> inputs.Y.shape, inputs.covar_names
    ((1000, 4), ('intercept', 'batch=batch2', 'log_depth', 'pct_mito', 's_score', 'log1p_non_ntc_guides_per_cell'))
    >>> inputs.treated(inputs.gene_to_cols["GENE4"]).size
    497
    """

    rows: Float32[np.ndarray, "cells width"]
    columns: Float32[np.ndarray, "covariates cells"]
    gram: Float64[np.ndarray, "covariates covariates"]
    cross: Float64[np.ndarray, "covariates programs"]
    ntc_gram: Float64[np.ndarray, "covariates covariates"]
    ntc_cross: Float64[np.ndarray, "covariates programs"]
    guides: sp.csc_matrix
    guide_names: Shaped[np.ndarray, " guides"]
    guide2gene: Mapping[str, str]
    gene_to_cols: Mapping[str, Int[np.ndarray, " _"]]
    ntc_cols: Int[np.ndarray, " ntc_guides"]
    program_names: tuple[str, ...]
    covar_names: tuple[str, ...]
    covar_df_raw: pd.DataFrame | None
    batch_raw: pd.Series | None
    control_group: ControlGroup
    ntc_cells: Int[np.ndarray, " ntc_cells"]
    all_cells: Int[np.ndarray, " cells"]
    cells: Shaped[np.ndarray, " cells"]
    n_several: int = 0
    n_guides: Int[np.ndarray, " cells"] | None = None

    @property
    def C(self) -> Float32[np.ndarray, "cells covariates"]:
        """The design, a read-only view; the intercept is column 0."""
        return self.rows[:, : len(self.covar_names)]

    @property
    def Y(self) -> Float32[np.ndarray, "cells programs"]:
        """The outcomes, a read-only view."""
        p = len(self.covar_names)
        return self.rows[:, p : p + len(self.program_names)]

    @property
    def genes(self) -> tuple[str, ...]:
        """The target genes, in sorted order."""
        return tuple(self.gene_to_cols)

    @property
    def moi(self) -> float:
        """Mean number of guides per cell."""
        return float(self.guides.nnz / max(1, self.guides.shape[0]))

    def treated(self, columns: Sequence[int] | Int[np.ndarray, " _"]) -> Int[np.ndarray, " treated"]:
        """The cells that carry any of these guides, int32, ascending."""
        g = self.guides
        parts = [g.indices[g.indptr[c] : g.indptr[c + 1]] for c in columns]
        return np.unique(np.concatenate(parts)).astype(np.int32) if parts else np.empty(0, np.int32)

    def without_own(self, columns: Sequence[int] | Int[np.ndarray, " _"]) -> "CRTInputs":
        """The inputs for a unit with these guides, if there is a burden covariate: its own guides do not count, as they are part of the treatment."""
        assert self.n_guides is not None
        g, b = self.guides, len(self.covar_names) - 1
        own = np.zeros(len(self.rows), np.int64)
        for c in np.setdiff1d(columns, self.ntc_cols):
            own[g.indices[g.indptr[c] : g.indptr[c + 1]]] += 1
        treated = np.flatnonzero(own)
        rows = empty_rows(len(self.rows), b + 1, len(self.program_names))
        rows[:] = self.rows
        rows[treated, b] = _standardised(self.n_guides[treated] - own[treated], self.n_guides)
        return _with_rows(self, rows)

    def with_shift(self, treated: Int[np.ndarray, " treated"], shift: float, programs: Int[np.ndarray, " some"]) -> "CRTInputs":
        """The inputs with some of the programs only, after the outcomes of some cells are shifted."""
        p = len(self.covar_names)
        rows = empty_rows(len(self.rows), p, programs.size)
        rows[:, :p], rows[:, p : p + programs.size] = self.C, self.Y[:, programs]
        rows[treated, p : p + programs.size] += shift
        return _with_rows(replace(self, program_names=tuple(self.program_names[k] for k in programs)), rows)


def _some_rows(rows: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The rows of some cells, aligned as all are."""
    if keep.all():
        return rows
    kept = empty_rows(int(keep.sum()), 0, rows.shape[1])
    kept[:] = rows[keep]
    return kept


def _guide_counts(carriers: sp.csr_matrix, is_ntc: np.ndarray, where: str) -> np.ndarray:
    """Number of guides in each cell, without NTC guides."""
    n_guides = np.asarray(carriers @ (~is_ntc).astype(np.int64)).ravel().astype(np.int64)
    if n_guides.min() == n_guides.max():
        raise InputError(f"{where}: every cell carries {n_guides[0]} guides that target genes, so this is no covariate. Set burden to 'none'.", "burden")
    return n_guides


def _standardised(n_guides: np.ndarray, of_cells: np.ndarray) -> np.ndarray:
    """log(1 + guides), by its mean and SD over the cells."""
    every = np.log1p(of_cells)
    return (np.log1p(n_guides) - every.mean()) / every.std()


def _with_rows(inputs: CRTInputs, rows: Float32[np.ndarray, "cells width"]) -> CRTInputs:
    """The inputs with other covariates or outcomes."""
    p, K = len(inputs.covar_names), len(inputs.program_names)
    columns = np.ascontiguousarray(rows[:, :p].T)
    gram, cross = moments(rows, p, K)
    ntc_gram, ntc_cross = moments(rows[inputs.ntc_cells if inputs.control_group == "ntc_cells" else []], p, K)
    for array in (rows, columns, gram, cross, ntc_gram, ntc_cross):
        array.flags.writeable = False
    return replace(inputs, rows=rows, columns=columns, gram=gram, cross=cross, ntc_gram=ntc_gram, ntc_cross=ntc_cross)


def make_inputs(
    rows: Float32[np.ndarray, "cells width"],
    *,
    guides: sp.spmatrix,
    guide_map: GuideMap,
    program_names: Sequence[str],
    covar_names: Sequence[str],
    cells: Shaped[np.ndarray, " cells"],
    control_group: ControlGroup = "complement",
) -> CRTInputs:
    """`CRTInputs` without a raw covariate table, from parts that are checked.

    Parameters
    ----------
    rows
        Covariates, the intercept first, then outcomes, in an array of `crt.layout.empty_rows`; it is kept, and made read-only.
    guides
        Presence of each guide in each cell, (cells, guides).
    guide_map
        Guide → gene, in the order of the columns of `guides`.
    program_names, covar_names
        Names of the outcomes and of the covariates.
    cells
        Names of the cells, (cells,).
    control_group
        As in `prepare_crt_inputs`.
    """
    n, p, K = len(rows), len(covar_names), len(program_names)
    if not (rows[:, 0] == 1).all():
        raise InputError("column 0 of C must be the intercept, with all values 1.")
    columns = np.ascontiguousarray(rows[:, :p].T)
    csc, is_ntc = sp.csc_matrix(guides), guide_map.is_ntc
    csc.sort_indices()
    ntc_cells = _ntc_cells(csc, is_ntc, control_group)
    gram, cross = moments(rows, p, K)
    ntc_gram, ntc_cross = moments(rows[ntc_cells if control_group == "ntc_cells" else []], p, K)
    for array in (rows, columns, gram, cross, ntc_gram, ntc_cross, ntc_cells, csc.data, csc.indices, csc.indptr):
        array.flags.writeable = False
    return CRTInputs(
        rows=rows,
        columns=columns,
        gram=gram,
        cross=cross,
        ntc_gram=ntc_gram,
        ntc_cross=ntc_cross,
        guides=csc,
        guide_names=guide_map.guide,
        guide2gene=dict(zip(guide_map.guide, guide_map.gene, strict=True)),
        gene_to_cols={str(g): np.flatnonzero((guide_map.gene == g) & ~is_ntc) for g in sorted(set(guide_map.gene[~is_ntc]))},
        ntc_cols=np.flatnonzero(is_ntc),
        program_names=tuple(program_names),
        covar_names=tuple(covar_names),
        covar_df_raw=None,
        batch_raw=None,
        control_group=control_group,
        ntc_cells=ntc_cells,
        all_cells=np.arange(n, dtype=np.int32),
        cells=cells,
    )


def _ntc_cells(guides: sp.csc_matrix, is_ntc: np.ndarray, control_group: str) -> np.ndarray:
    """The NTC cells, at least one where they are the controls."""
    if control_group not in CONTROL_GROUPS:
        raise InputError(f"control_group is {control_group!r}; choose {' or '.join(map(repr, CONTROL_GROUPS))}.", "control_group")
    cells = ntc_only(guides, is_ntc)
    if control_group == "ntc_cells" and cells.size == 0:
        raise InputError(
            "control_group is 'ntc_cells' but no cell carries only NTC guides. Check which guides the map marks as NTC, or use 'complement'.", "control_group"
        )
    return cells


def _one_gene(carriers: sp.csr_matrix, guide_map: GuideMap) -> np.ndarray:
    """Whether each cell carries guides of at most one gene, NTC guides aside."""
    gene = np.unique(guide_map.gene, return_inverse=True)[1]
    targeting = ~guide_map.is_ntc[carriers.indices]
    cell = np.repeat(np.arange(carriers.shape[0]), np.diff(carriers.indptr))[targeting]
    pairs = np.unique(cell * np.int64(gene.max() + 1) + gene[carriers.indices[targeting]])
    return np.bincount(pairs // (gene.max() + 1), minlength=carriers.shape[0]) <= 1


def prepare_crt_inputs(
    adata: Any,
    *,
    usage: str | Path | pd.DataFrame | None = None,
    guides: str | Path | pd.DataFrame | None = None,
    guide_map: GuideMap | pd.DataFrame | str | Path | None = None,
    covariates: Sequence[str] | None = None,
    usage_key: str = "cnmf_usage",
    covar_key: str = "covar",
    guide_assignment_key: str = "guide_assignment",
    guide2gene_key: str = "guide2gene",
    guide_names_key: str = "guide_names",
    batch_key: str = "batch",
    transform: Literal["clr", "none"] = "clr",
    eps_quantile: float = 1e-4,
    control_group: ControlGroup = "complement",
    ntc_labels: Sequence[str] = NTC_LABELS,
    multiple_guides: MultipleGuides | None = None,
    burden: Literal["none", "others"] = "none",
) -> CRTInputs:
    """Read and check a screen for the test.

    Parameters
    ----------
    adata
        AnnData, MuData, or a path to .h5ad, .h5mu or .zarr.
    usage
        Table of program usage in place of `usage_key`: cNMF's `NAME.usages.k_K.dt_X.consensus.txt`, another CSV or TSV, or a DataFrame. Cells are matched by
        name.
    guides
        Table of the guides of each cell in place of `guide_assignment_key`: Cell Ranger's calls, one row per cell and guide, or a matrix.
    guide_map
        Guide → gene map in place of `guide2gene_key`: a table or file with guide_name, gene_name and is_ntc, or in the format of SCEPTRE or Cell Ranger.
    covariates
        Columns of `obs` in place of `covar_key`.
    usage_key
        Key of the program usage in `obsm` or `layers`.
    covar_key
        Key of the covariates in `obsm` or `layers`: a DataFrame, or a numeric array.
    guide_assignment_key
        Key of the guides of each cell in `obsm` or `layers`, or a MuData modality.
    guide2gene_key
        Key of the guide → gene map in `uns`: a dict, or a table with guide_name, gene_name and is_ntc. If it is missing, `uns["guide_map"]` is read.
    guide_names_key
        Key of the names of the guides in `uns`, for guides stored as a matrix without names.
    batch_key
        Batch column of the covariate table.
    transform
        Transformation of the outcomes: "clr", the centred log-ratio, for program usage; "none" for any other continuous outcome.
    eps_quantile
        Quantile of the positive usage values at which usage is floored before the logarithm.
    control_group
        Cells that a unit is compared with: "complement", all cells without the unit's guides, for high MOI; "ntc_cells", only cells whose guides are all NTC,
        for low MOI, where other perturbations in the complement bias every comparison.
    ntc_labels
        Genes that mark NTC guides, in any case.
    multiple_guides
        Cells that carry guides of several genes: "drop" leaves them out, as their effects would be counted for each of these genes; "keep" tests them, as is
        necessary at high MOI. By default "drop" with NTC cells as controls, and "keep" with the complement. NTC guides do not count as a gene.
    burden
        "others" adds a covariate, log(1 + number of guides in the cell), without NTC guides and without the guides of the tested unit, which are part of the
        treatment. The design then differs between units, so that each takes longer.

    Returns
    -------
    CRTInputs
        Design, outcomes and guides.

    Raises
    ------
    InputError
        On invalid input; the message names the key and the first rows or names, and suggests a fix.

    Warns
    -----
    ScreenWarning
        On covariates that are left out, usage that does not sum to 1, and the complement at low MOI.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> inputs.genes, inputs.program_names, round(inputs.moi, 2)
    (('GENE0', 'GENE1', 'GENE2', 'GENE3', 'GENE4', 'GENE5'), ('program_0', 'program_1', 'program_2', 'program_3'), 4.5)
    """
    given = {"transform": (transform, ("clr", "none")), "burden": (burden, ("none", "others")), "multiple_guides": (multiple_guides, (None, "keep", "drop"))}
    for name, (value, known) in given.items():
        if value not in known:
            raise InputError(f"{name} is {value!r}; choose {' or '.join(map(repr, filter(None, known)))}.", name)
    with open_view(adata) as view:
        cells = view.names("obs")
        if cells.size == 0:
            raise InputError("the screen has no cells.")
        values, programs, usage_where = usage_of(view, usage, usage_key, cells)
        table, covar_where = covariates_of(view, covariates, covar_key)
        matrix, guide_names, where = read_guides(view, key=guide_assignment_key, names_key=guide_names_key, given=guides)
        mapping, map_where = guide_map_of(view, guide_map, guide2gene_key, ntc_labels)
        carriers = presence(matrix, cells, where=where)
        if carriers.nnz == 0:
            raise InputError(f"{where}: no cell carries a guide; all of its {carriers.shape[1]:,} columns are zero.", "guide_assignment_key")
        ordered = in_order(mapping, guide_names, where, map_where)
        values = (check_usage if transform == "clr" else check_outcome)(values, cells, where=usage_where)
        design = encode_covariates(table, cells, where=covar_where)
        covar_names = (*design.names, BURDEN) if burden == "others" else design.names
        rows = empty_rows(cells.size, len(covar_names), values.shape[1])
        rows[:, : len(design.names)] = design.matrix
        del design  # in float64 it takes a third of the memory of the rows
        outcomes = rows[:, len(covar_names) :][:, : values.shape[1]]
        if transform == "clr":
            clr_usage(values, eps_quantile=eps_quantile, where=usage_where, out=outcomes)
        else:
            outcomes[:] = storable(all_rows(values, where=usage_where), usage_where)
    n_cells, n_guides = cells.size, None
    if (multiple_guides or ("drop" if control_group == "ntc_cells" else "keep")) == "drop":
        keep = _one_gene(carriers, ordered)
        carriers, cells, table, rows = carriers[keep], cells[keep], table[keep], _some_rows(rows, keep)
    if burden == "others":
        n_guides = _guide_counts(carriers, ordered.is_ntc, where)
        rows[:, len(covar_names) - 1] = _standardised(n_guides, n_guides)
    inputs = make_inputs(rows, guides=carriers, guide_map=ordered, program_names=programs, covar_names=covar_names, cells=cells, control_group=control_group)
    raw = table if isinstance(table, pd.DataFrame) else None
    batch = raw[batch_key].copy() if raw is not None and batch_key in raw.columns else None
    inputs = replace(inputs, n_several=n_cells - cells.size, n_guides=n_guides, covar_df_raw=raw, batch_raw=batch)
    _warn_of_low_moi(inputs)
    return inputs


def _warn_of_low_moi(inputs: CRTInputs) -> None:
    if inputs.control_group == "complement" and inputs.moi < LOW_MOI:
        warn(
            f"cells carry {inputs.moi:.2f} guides on average, so this is a low-MOI screen, but the control group is the complement: most control cells carry "
            "another perturbation, which biases every comparison. Use control_group='ntc_cells'.",
            "control_group",
        )
