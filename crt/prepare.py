"""Preparation of the inputs of the test from an AnnData: read, checked, encoded."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from crt.cells.stored import filled_matrix, some_rows
from crt.inputs import BURDEN, LOW_MOI, CRTInputs, make_inputs, standardised_burden
from crt.layout import filled_rows
from crt.read import chosen, covariates_of, guide_map_of, in_order, usage_of
from crt.settings import ControlGroup, MultipleGuides
from data_prep.blocks.base import BLOCK_CELLS, block_slices
from data_prep.blocks.place import MEMORY, Place
from data_prep.design import Design, encode_covariates
from data_prep.errors import InputError, Problems, warn
from data_prep.formula import encode_formula
from data_prep.memory import Needs
from data_prep.outcomes import LogRatios, PlainOutcomes
from data_prep.read.container import View, open_view
from data_prep.read.guide_map import NTC_LABELS, GuideMap
from data_prep.read.screen import read_guides

BLOCKS_AT_ONCE = 4
RANKING = 150  # bytes for each cell: two threads, with ties


def prepare_crt_inputs(
    adata: Any,
    *,
    usage: str | Path | pd.DataFrame | None = None,
    guides: str | Path | pd.DataFrame | None = None,
    guide_map: GuideMap | pd.DataFrame | str | Path | None = None,
    covariates: Sequence[str] | None = None,
    formula: str | None = None,
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
    min_umi: int | None = None,
    outcomes: Sequence[str] | None = None,
    programs: Sequence[str] | None = None,
    place: Place | Callable[[Needs], Place] = MEMORY,
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
    formula
        Formula of the design, such as "~ batch + log(n_umis) * phase"; its names are columns of the covariate table or of `obs`. Without it each covariate
        enters as it is.
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
    min_umi
        Minimum number of UMIs of a guide that a cell carries, for guides that are counts; None for calls. Raw counts without a minimum are refused.
    outcomes
        Names of the outcomes to read: columns of `usage` or `usage_key`, columns of `obs`, or genes if `usage_key` is a layer. All of `usage_key` if None.
    programs
        Programs to test, after the transformation of all that are read; all if None.
    place
        Where the matrices of the cells are: `data_prep.blocks.place.Memory`, `Files` or `Workers` of a cluster; or a function that chooses one, given what the
        run takes. The results are the same.

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
    _check_choices(transform=(transform, ("clr", "none")), burden=(burden, ("none", "others")), multiple_guides=(multiple_guides, (None, "keep", "drop")))
    with open_view(adata) as view:
        cells = view.names("obs")
        (values, names, usage_where), (table, covar_where), (carriers, where), ordered = _read(
            view,
            usage=(usage, usage_key, cells, outcomes),
            covariates=(covariates, covar_key, formula),
            guides={"key": guide_assignment_key, "names_key": guide_names_key, "given": guides, "min_umi": min_umi},
            guide_map=(guide_map, guide2gene_key, ntc_labels, guide_assignment_key),
        )
        found = _outcomes(values, cells, transform=transform, eps_quantile=eps_quantile, where=usage_where)
        keep = chosen(names, programs)
        covar_names, rows, place = _rows(_design(table, formula, cells, covar_where), burden, found, keep, place)
    n_cells, n_guides = cells.size, None
    if (multiple_guides or ("drop" if control_group == "ntc_cells" else "keep")) == "drop":
        alone = _one_gene(carriers, ordered)
        carriers, cells, table, rows = carriers[alone], cells[alone], table[alone], _some_rows(rows, alone, place)
    if burden == "others":
        n_guides = _guide_counts(carriers, ordered.is_ntc, where)
        rows[:, len(covar_names) - 1] = standardised_burden(n_guides, n_guides)
    inputs = make_inputs(
        rows,
        guides=carriers,
        guide_map=ordered,
        program_names=[names[k] for k in keep],
        covar_names=covar_names,
        cells=cells,
        control_group=control_group,
        place=place,
    )
    inputs = _with_raw(replace(inputs, n_several=n_cells - cells.size, n_guides=n_guides), table, batch_key)
    _warn_of_low_moi(inputs)
    return inputs


def _read(view: View, *, usage: Any, covariates: Any, guides: Any, guide_map: Any) -> tuple[Any, Any, tuple[sp.csr_matrix, str], GuideMap]:
    """Usage, covariates, guides and guide map; the problems of all of them together."""
    if view.names("obs").size == 0:
        raise InputError("the screen has no cells.")
    problems = Problems()
    with problems:
        found_usage = usage_of(view, *usage)
    with problems:
        found_covariates = covariates_of(view, *covariates)
    with problems:
        carriers, guide_names, where = read_guides(view, **guides)
    with problems:
        mapping, map_where = guide_map_of(view, *guide_map)
    problems.report()
    if carriers.nnz == 0:
        raise InputError(f"{where}: no cell carries a guide; all of its {carriers.shape[1]:,} columns are zero.", "guide_assignment_key")
    return found_usage, found_covariates, (carriers, where), in_order(mapping, guide_names, where, map_where)


def _outcomes(values: Any, cells: np.ndarray, *, transform: str, eps_quantile: float, where: str) -> LogRatios | PlainOutcomes:
    if transform == "clr":
        return LogRatios.of(values, cells, eps_quantile=eps_quantile, where=where)
    return PlainOutcomes.of(values, cells, where=where)


def _needs(n_cells: int, n_covariates: int, n_outcomes: int) -> Needs:
    """What a test takes beyond its guides and covariates: matrices of outcomes and their scores; without them, what two threads take that rank programs."""
    blocks = BLOCKS_AT_ONCE * BLOCK_CELLS * 4 * (n_covariates + 3 * n_outcomes)
    matrices = 4 * n_cells * (2 * n_covariates + 16 + 4 * n_outcomes)
    return Needs(in_memory=matrices + blocks, in_files=RANKING * n_cells + blocks)


def _check_choices(**given: tuple[str | None, tuple[str | None, ...]]) -> None:
    for name, (value, known) in given.items():
        if value not in known:
            raise InputError(f"{name} is {value!r}; choose {' or '.join(map(repr, filter(None, known)))}.", name)


def _design(table: pd.DataFrame | np.ndarray, formula: str | None, cells: np.ndarray, where: str) -> Design:
    if formula is not None and isinstance(table, pd.DataFrame):
        return encode_formula(formula, table, cells, where=where)
    return encode_covariates(table, cells, where=where)


def _with_raw(inputs: CRTInputs, table: pd.DataFrame | np.ndarray, batch_key: str) -> CRTInputs:
    """The inputs with the covariate table and its batch column, where there are such."""
    if not isinstance(table, pd.DataFrame):
        return inputs
    return replace(inputs, covar_df_raw=table, batch_raw=table[batch_key].copy() if batch_key in table.columns else None)


def _rows(
    design: Design, burden: str, outcomes: LogRatios | PlainOutcomes, keep: Sequence[int], place: Place | Callable[[Needs], Place]
) -> tuple[tuple[str, ...], np.ndarray, Place]:
    """Names of the covariates, rows with the design and the outcomes, and their place; the column of the burden is written later."""
    n, names = len(design.matrix), (*design.names, BURDEN) if burden == "others" else design.names
    place = place(_needs(n, len(names), len(keep))) if callable(place) else place
    parts = ((design.matrix[cells], block) for cells, block in outcomes.blocks(keep))
    return names, filled_rows(n, len(names), len(keep), parts, place), place


def _some_rows(rows: np.ndarray, keep: np.ndarray, place: Place) -> np.ndarray:
    """The rows of some cells, aligned as all are."""
    if keep.all():
        return rows
    which = np.flatnonzero(keep)
    return filled_matrix(place, which.size, rows.shape[1], (some_rows(rows, which[cells]) for cells in block_slices(which.size))).owned()


def _guide_counts(carriers: sp.csr_matrix, is_ntc: np.ndarray, where: str) -> np.ndarray:
    """Number of guides in each cell, without NTC guides."""
    n_guides = np.asarray(carriers @ (~is_ntc).astype(np.int64)).ravel().astype(np.int64)
    if n_guides.min() == n_guides.max():
        raise InputError(f"{where}: every cell carries {n_guides[0]} guides that target genes, so this is no covariate. Set burden to 'none'.", "burden")
    return n_guides


def _one_gene(carriers: sp.csr_matrix, guide_map: GuideMap) -> np.ndarray:
    """Whether each cell carries guides of at most one gene, NTC guides aside."""
    gene = np.unique(guide_map.gene, return_inverse=True)[1]
    targeting = ~guide_map.is_ntc[carriers.indices]
    cell = np.repeat(np.arange(carriers.shape[0]), np.diff(carriers.indptr))[targeting]
    pairs = np.unique(cell * np.int64(gene.max() + 1) + gene[carriers.indices[targeting]])
    return np.bincount(pairs // (gene.max() + 1), minlength=carriers.shape[0]) <= 1


def _warn_of_low_moi(inputs: CRTInputs) -> None:
    if inputs.control_group == "complement" and inputs.moi < LOW_MOI:
        warn(
            f"cells carry {inputs.moi:.2f} guides on average, so this is a low-MOI screen, but the control group is the complement: most control cells carry "
            "another perturbation, which biases every comparison. Use control_group='ntc_cells'.",
            "control_group",
        )
