"""The inputs of the test: `CRTInputs`, and its preparation from an AnnData."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int, Shaped

from crt.cells.block import CellBlock
from crt.cells.stored import StoredMatrix, cell_blocks, pieces, some_rows
from crt.layout import empty_rows, moments, ntc_only, transposed
from crt.settings import ControlGroup
from data_prep.blocks.base import CellBlocks
from data_prep.blocks.place import MEMORY, Files, Place
from data_prep.errors import InputError
from data_prep.read.guide_map import GuideMap

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
    place
        Where `rows` and `columns` are: in memory, or in files.

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
    place: Place = MEMORY

    def __getstate__(self) -> dict[str, Any]:
        """For workers of a cluster: matrices in files travel as the names of the files, and the worker has the files without the cluster."""
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.place.folder is not None:
            state |= {"place": Files(self.place.folder), "rows": StoredMatrix.of(self.rows), "columns": StoredMatrix.of(self.columns)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files."""
        for name, value in state.items():
            object.__setattr__(self, name, value.whole() if isinstance(value, StoredMatrix) else value)

    def blocks(self) -> CellBlocks[CellBlock]:
        """The cells in blocks."""
        return cell_blocks(self.place, self.rows, self.columns, len(self.program_names))

    def host_blocks(self) -> CellBlocks[CellBlock]:
        """The cells in blocks for work that a device does not do."""
        return self.blocks() if self.place.folder is not None else replace(self, place=MEMORY).blocks()

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
        cells = np.sort(np.concatenate([g.indices[:0], *(g.indices[g.indptr[c] : g.indptr[c + 1]] for c in columns)])).astype(np.int32, copy=False)
        return cells[np.diff(cells, prepend=-1) > 0]

    def without_own(self, columns: Sequence[int] | Int[np.ndarray, " _"]) -> "CRTInputs":
        """The inputs for a unit with these guides, if there is a burden covariate: its own guides do not count, as they are part of the treatment."""
        assert self.n_guides is not None
        g, b = self.guides, len(self.covar_names) - 1
        own = np.zeros(len(self.rows), np.int64)
        for c in np.setdiff1d(columns, self.ntc_cols):
            own[g.indices[g.indptr[c] : g.indptr[c + 1]]] += 1
        treated = np.flatnonzero(own)
        rows = empty_rows(len(self.rows), b + 1, len(self.program_names), self.place)
        for cells in pieces(rows):
            rows[cells] = self.rows[cells]
        rows[treated, b] = standardised_burden(self.n_guides[treated] - own[treated], self.n_guides)
        return _with_rows(self, rows)

    def with_shift(self, treated: Int[np.ndarray, " treated"], shift: float, programs: Int[np.ndarray, " some"]) -> "CRTInputs":
        """The inputs with some of the programs only, after the outcomes of some cells are shifted."""
        p = len(self.covar_names)
        rows = empty_rows(len(self.rows), p, programs.size, self.place)
        for cells in pieces(rows):
            rows[cells, :p], rows[cells, p : p + programs.size] = self.C[cells], self.Y[cells][:, programs]
        rows[treated, p : p + programs.size] += shift
        return _with_rows(replace(self, program_names=tuple(self.program_names[k] for k in programs)), rows)


def standardised_burden(n_guides: Int[np.ndarray, " some"], of_cells: Int[np.ndarray, " cells"]) -> Float64[np.ndarray, " some"]:
    """log(1 + guides), by its mean and SD over the cells."""
    every = np.log1p(of_cells)
    return (np.log1p(n_guides) - every.mean()) / every.std()


def _with_rows(inputs: CRTInputs, rows: Float32[np.ndarray, "cells width"]) -> CRTInputs:
    """The inputs with other covariates or outcomes."""
    p, K = len(inputs.covar_names), len(inputs.program_names)
    columns = transposed(rows, p, inputs.place)
    sums = _sums(rows, p, K, inputs.ntc_cells if inputs.control_group == "ntc_cells" else inputs.ntc_cells[:0])
    rows.flags.writeable = columns.flags.writeable = False
    return replace(inputs, rows=rows, columns=columns, **sums)


def _sums(rows: np.ndarray, p: int, n_programs: int, ntc_cells: np.ndarray) -> dict[str, Any]:
    """C'C and C'Y over all cells, and over some NTC cells, as fields of the inputs."""
    sums = dict(
        zip(("gram", "cross", "ntc_gram", "ntc_cross"), (*moments(rows, p, n_programs), *moments(some_rows(rows, ntc_cells), p, n_programs)), strict=True)
    )
    for array in sums.values():
        array.flags.writeable = False
    return sums


def make_inputs(
    rows: Float32[np.ndarray, "cells width"],
    *,
    guides: sp.spmatrix,
    guide_map: GuideMap,
    program_names: Sequence[str],
    covar_names: Sequence[str],
    cells: Shaped[np.ndarray, " cells"],
    control_group: ControlGroup = "complement",
    place: Place = MEMORY,
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
    place
        Where the matrices are.
    """
    n, p, K = len(rows), len(covar_names), len(program_names)
    columns = transposed(rows, p, place)
    if not (columns[0] == 1).all():
        raise InputError("column 0 of C must be the intercept, with all values 1.")
    csc, is_ntc = sp.csc_matrix(guides), guide_map.is_ntc
    csc.sort_indices()
    ntc_cells = _ntc_cells(csc, is_ntc, control_group)
    sums = _sums(rows, p, K, ntc_cells if control_group == "ntc_cells" else ntc_cells[:0])
    for array in (rows, columns, ntc_cells, csc.data, csc.indices, csc.indptr):
        array.flags.writeable = False
    return CRTInputs(
        rows=rows,
        columns=columns,
        **sums,
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
        place=place,
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
