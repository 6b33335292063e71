"""The checked input of the test: `CRTInputs`, and how an AnnData becomes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from crt.layout import empty_rows, moments, ntc_only
from crt.read import covariates_of, guide_map_of, in_order, storable, usage_of
from data_prep.design import encode_covariates
from data_prep.errors import InputError, first_few, warn
from data_prep.outcomes import all_rows, check_outcome, check_usage, clr_usage
from data_prep.read.container import open_view
from data_prep.read.guide_map import NTC_LABELS, GuideMap
from data_prep.read.guides import presence
from data_prep.read.screen import read_guides

ControlGroup = Literal["complement", "ntc_cells"]
CONTROL_GROUPS = ("complement", "ntc_cells")
LOW_MOI = 1.5  # mean guides per cell under which the complement is a doubtful control


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CRTInputs:
    """Everything the test needs of a screen of N cells, K programs and p design columns; read-only, shared by all units and workers.

    `prepare_crt_inputs` makes it.

    Attributes
    ----------
    rows
        float32 (N, width), C-contiguous: for each cell its p covariates (intercept first), its K outcomes, and zeros up to a multiple of 16.
        A sum over treated cells is one pass over their rows; `C` and `Y` are views of it.
    columns
        The covariates again, transposed, for the propensity: float32 (p, N).
    gram
        C'C over all cells, float64 (p, p).
    cross
        C'Y over all cells, float64 (p, K).
    ntc_gram
        C'C over NTC cells, where they are the controls.
    ntc_cross
        C'Y over NTC cells, where they are the controls.
    guides
        Presence, CSC (N, G).
    guide_names
        Guides, (G,), in the order of the columns.
    guide2gene
        Guide → gene; an NTC guide's is its label.
    gene_to_cols
        Gene → columns of `guides`.
    ntc_cols
        Columns of the NTC guides.
    program_names
        Columns of Y, (K,).
    covar_names
        Columns of C, (p,).
    covar_df_raw
        The covariate table as given; None for an array. Nothing in C depends on it.
    batch_raw
        Its batch column; None if it has none.
    control_group
        "complement" or "ntc_cells": which cells a unit is compared with.
    ntc_cells
        The cells that carry guides, all of them NTC; int32, rising.
    all_cells
        0 … N − 1, int32.
    cells
        Names of the cells, (N,).

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> inputs.Y.shape, inputs.covar_names
    ((1000, 4), ('intercept', 'batch=batch2', 'log_depth', 'pct_mito', 's_score', 'log1p_non_ntc_guides_per_cell'))
    >>> inputs.treated(inputs.gene_to_cols["GENE4"]).size
    497
    """

    rows: np.ndarray
    columns: np.ndarray
    gram: np.ndarray
    cross: np.ndarray
    ntc_gram: np.ndarray
    ntc_cross: np.ndarray
    guides: sp.csc_matrix
    guide_names: np.ndarray
    guide2gene: Mapping[str, str]
    gene_to_cols: Mapping[str, np.ndarray]
    ntc_cols: np.ndarray
    program_names: tuple[str, ...]
    covar_names: tuple[str, ...]
    covar_df_raw: pd.DataFrame | None
    batch_raw: pd.Series | None
    control_group: ControlGroup
    ntc_cells: np.ndarray
    all_cells: np.ndarray
    cells: np.ndarray

    @property
    def C(self) -> np.ndarray:
        """The design, float32 (N, p), a read-only view; the intercept is column 0."""
        return self.rows[:, : len(self.covar_names)]

    @property
    def Y(self) -> np.ndarray:
        """The outcomes, float32 (N, K), a read-only view."""
        p = len(self.covar_names)
        return self.rows[:, p : p + len(self.program_names)]

    @property
    def genes(self) -> tuple[str, ...]:
        """The target genes, in sorted order."""
        return tuple(self.gene_to_cols)

    @property
    def moi(self) -> float:
        """Mean number of guides in a cell."""
        return float(self.guides.nnz / max(1, self.guides.shape[0]))

    def treated(self, columns: Sequence[int] | np.ndarray) -> np.ndarray:
        """The cells that carry any of these guides, int32, rising."""
        g = self.guides
        parts = [g.indices[g.indptr[c] : g.indptr[c + 1]] for c in columns]
        return np.unique(np.concatenate(parts)).astype(np.int32) if parts else np.empty(0, np.int32)


def make_inputs(
    *,
    C: np.ndarray,
    Y: np.ndarray,
    guides: sp.spmatrix,
    guide_map: GuideMap,
    program_names: Sequence[str],
    covar_names: Sequence[str],
    cells: np.ndarray,
    covar_df_raw: pd.DataFrame | None = None,
    batch_raw: pd.Series | None = None,
    control_group: ControlGroup = "complement",
) -> CRTInputs:
    """Lay out checked parts as `CRTInputs`; `guide_map` is in the order of the columns of `guides`, and column 0 of C is the intercept."""
    n, p = C.shape
    if n == 0 or Y.shape[0] != n or guides.shape[0] != n:
        raise InputError(f"C has {n:,} cells, Y {Y.shape[0]:,} and the guides {guides.shape[0]:,}; they must be the same cells, one at least.")
    rows = empty_rows(n, p, Y.shape[1])
    rows[:, :p], rows[:, p : p + Y.shape[1]] = C, Y
    return inputs_of_rows(
        rows,
        guides=guides,
        guide_map=guide_map,
        program_names=program_names,
        covar_names=covar_names,
        cells=cells,
        covar_df_raw=covar_df_raw,
        batch_raw=batch_raw,
        control_group=control_group,
    )


def inputs_of_rows(
    rows: np.ndarray,
    *,
    guides: sp.spmatrix,
    guide_map: GuideMap,
    program_names: Sequence[str],
    covar_names: Sequence[str],
    cells: np.ndarray,
    covar_df_raw: pd.DataFrame | None = None,
    batch_raw: pd.Series | None = None,
    control_group: ControlGroup = "complement",
) -> CRTInputs:
    """As `make_inputs`, from rows of `crt.layout.empty_rows` that hold covariates and outcomes; they are kept, and made read-only."""
    n, p = len(rows), len(covar_names)
    if not (rows[:, 0] == 1).all():
        raise InputError("column 0 of C must be the intercept: all ones.")
    if control_group not in CONTROL_GROUPS:
        raise InputError(f"control_group is {control_group!r}; choose {' or '.join(map(repr, CONTROL_GROUPS))}.")
    columns = np.ascontiguousarray(rows[:, :p].T)
    csc = sp.csc_matrix(guides)
    csc.sort_indices()
    is_ntc = guide_map.is_ntc
    ntc_cells = ntc_only(csc, is_ntc)
    if control_group == "ntc_cells" and ntc_cells.size == 0:
        raise InputError("control_group is 'ntc_cells' but no cell carries only NTC guides. Check which guides the map calls NTC, or use the complement.")
    gram, cross = moments(rows, p, len(program_names))
    ntc_gram, ntc_cross = moments(rows[ntc_cells], p, len(program_names)) if control_group == "ntc_cells" else (np.zeros_like(gram), np.zeros_like(cross))
    gene_to_cols = {str(g): np.flatnonzero((guide_map.gene == g) & ~is_ntc) for g in sorted(set(guide_map.gene[~is_ntc]))}
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
        gene_to_cols=gene_to_cols,
        ntc_cols=np.flatnonzero(is_ntc),
        program_names=tuple(program_names),
        covar_names=tuple(covar_names),
        covar_df_raw=covar_df_raw,
        batch_raw=batch_raw,
        control_group=control_group,
        ntc_cells=ntc_cells,
        all_cells=np.arange(n, dtype=np.int32),
        cells=cells,
    )


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
) -> CRTInputs:
    """Read and check a screen for the test.

    Parameters
    ----------
    adata
        AnnData, MuData, or a path to .h5ad, .h5mu or .zarr.
    usage
        A table of program usage in place of `usage_key`: cNMF's `NAME.usages.k_K.dt_X.consensus.txt`, another CSV or TSV, or a DataFrame; cells are
        matched by name.
    guides
        A table of the guides in cells in place of `guide_assignment_key`: Cell Ranger's calls, one row for each cell and guide, or a matrix.
    guide_map
        The guide → gene map in place of `guide2gene_key`: a table or file of guide_name, gene_name, is_ntc, or as SCEPTRE or Cell Ranger have it.
    covariates
        Columns of `obs` in place of `covar_key`.
    usage_key
        Program usage, in `obsm` or `layers`.
    covar_key
        Covariates, in `obsm` or `layers`: a DataFrame, or a numeric array.
    guide_assignment_key
        Guides of each cell, in `obsm`, `layers` or a MuData modality.
    guide2gene_key
        Guide → gene, in `uns`: a dict, or a table of guide_name, gene_name, is_ntc. Where it is not there, `uns["guide_map"]` is read.
    guide_names_key
        Names of the guides, in `uns`, where the guides are a bare matrix.
    batch_key
        The column of the covariate table that holds batches.
    transform
        "clr", the centred log-ratio, for program usage; "none" takes any continuous outcome as it is.
    eps_quantile
        Usage is floored at this quantile of its positive entries before the logarithm.
    control_group
        "complement", all cells without the unit's guides, right at high MOI; "ntc_cells", only cells whose guides are all NTC, right at
        low MOI, where other perturbations in the complement bias every comparison.
    ntc_labels
        Genes that mark NTC guides, in any case.

    Returns
    -------
    CRTInputs
        Design, outcomes and guides, laid out for the test.

    Raises
    ------
    InputError
        On anything wrong with the input, naming the key, the first rows or names, and the mend.

    Warns
    -----
    ScreenWarning
        On design columns that are left out, usage that does not sum to 1, and the complement at low MOI.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> inputs.genes, inputs.program_names, round(inputs.moi, 2)
    (('GENE0', 'GENE1', 'GENE2', 'GENE3', 'GENE4', 'GENE5'), ('program_0', 'program_1', 'program_2', 'program_3'), 4.5)
    """
    if transform not in ("clr", "none"):
        raise InputError(f"transform is {transform!r}; choose 'clr' or 'none'.")
    with open_view(adata) as view:
        cells = view.names("obs")
        if cells.size == 0:
            raise InputError("the screen has no cells.")
        values, programs, said = usage_of(view, usage, usage_key, cells)
        table, covar_where = covariates_of(view, covariates, covar_key)
        matrix, guide_names, where = read_guides(view, key=guide_assignment_key, names_key=guide_names_key, given=guides)
        mapping, map_where = guide_map_of(view, guide_map, guide2gene_key, ntc_labels)
        carriers = presence(matrix, cells, where=where)
        ordered = in_order(mapping, guide_names, where, map_where)
        if lost := sorted({*mapping.gene[~mapping.is_ntc]} - {*ordered.gene}):
            warn(f"{len(lost)} genes of {map_where} have no guide in {where} and are not tested: {first_few(lost)}")
        values = (check_usage if transform == "clr" else check_outcome)(values, cells, where=said)
        design = encode_covariates(table, cells, where=covar_where)
        covar_names = design.names
        rows = empty_rows(cells.size, len(covar_names), values.shape[1])
        rows[:, : len(covar_names)] = design.matrix
        del design  # in float64, it is as large as a third of the rows
        outcomes = rows[:, len(covar_names) :][:, : values.shape[1]]
        if transform == "clr":
            clr_usage(values, eps_quantile=eps_quantile, where=said, out=outcomes)
        else:
            outcomes[:] = storable(all_rows(values, where=said), said)
    raw = table if isinstance(table, pd.DataFrame) else None
    inputs = inputs_of_rows(
        rows,
        guides=carriers,
        guide_map=ordered,
        program_names=programs,
        covar_names=covar_names,
        cells=cells,
        covar_df_raw=raw,
        batch_raw=None if raw is None or batch_key not in raw.columns else raw[batch_key].copy(),
        control_group=control_group,
    )
    if control_group == "complement" and inputs.moi < LOW_MOI:
        warn(
            f"cells carry {inputs.moi:.2f} guides on average, so this is a low-MOI screen, and the control group is the complement: most control cells carry "
            "some other perturbation, which biases every comparison. Use control_group='ntc_cells' (--control-group ntc_cells)."
        )
    return inputs
