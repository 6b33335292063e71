"""From an AnnData to `CRTInputs`, and everything that can be wrong on the way."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from crt.burden import BURDEN_KEY, add_burden_covariate
from crt.prepare import prepare_crt_inputs
from data_prep.errors import InputError, ScreenWarning


def test_what_is_prepared(screen, inputs):
    n = screen.n_obs
    assert inputs.C.shape == (n, 6) and inputs.Y.shape == (n, 5) and inputs.C.dtype == inputs.Y.dtype == np.float32
    assert sp.issparse(inputs.guides) and inputs.guides.format == "csc"
    assert inputs.covar_names[:2] == ("intercept", "batch=batch2") and (inputs.C[:, 0] == 1).all()
    assert inputs.program_names == tuple(screen.uns["program_names"]) and inputs.genes == tuple(sorted(f"GENE{i}" for i in range(8)))
    assert inputs.batch_raw is not None and inputs.covar_df_raw.equals(screen.obsm["covar"])
    np.testing.assert_allclose(inputs.Y.sum(1), 0, atol=1e-4)
    assert inputs.rows.ctypes.data % 64 == 0 and inputs.rows.shape[1] % 16 == 0
    gene = "GENE3"
    dense = screen.obsm["guide_assignment"].toarray()[:, inputs.gene_to_cols[gene]]
    np.testing.assert_array_equal(inputs.treated(inputs.gene_to_cols[gene]), np.flatnonzero(dense.any(1)))
    assert {inputs.guide2gene[g] for g in inputs.guide_names[inputs.gene_to_cols[gene]]} == {gene}
    assert {inputs.guide2gene[g] for g in inputs.guide_names[inputs.ntc_cols]} == {"non-targeting"}
    np.testing.assert_allclose(inputs.gram, inputs.C.T.astype(float) @ inputs.C)


def test_ntc_cells(screen):
    inputs = prepare_crt_inputs(screen, control_group="ntc_cells", multiple_guides="keep")
    dense = screen.obsm["guide_assignment"].toarray()
    ntc = np.zeros(dense.shape[1], bool)
    ntc[inputs.ntc_cols] = True
    np.testing.assert_array_equal(inputs.ntc_cells, np.flatnonzero(dense[:, ntc].any(1) & ~dense[:, ~ntc].any(1)))


def test_stored_zeros_are_absent(screen_copy, inputs):
    guides = screen_copy.obsm["guide_assignment"].tocoo()
    empty = np.setdiff1d(np.arange(guides.shape[0]), inputs.treated(range(guides.shape[1])))[:3]
    more = sp.csr_matrix((np.append(guides.data, np.zeros(3)), (np.append(guides.row, empty), np.append(guides.col, [0, 0, 0]))), shape=guides.shape)
    assert more.nnz == guides.nnz + 3
    screen_copy.obsm["guide_assignment"] = more
    assert prepare_crt_inputs(screen_copy).guides.nnz == guides.nnz


def test_forms_of_input(screen, inputs, tmp_path):
    """DataFrames, layers, a map as a table, a file, a MuData-like modality: the same rows."""
    table = screen.copy()
    table.obsm["cnmf_usage"] = pd.DataFrame(screen.obsm["cnmf_usage"], index=screen.obs_names, columns=list(screen.uns["program_names"]))
    table.obsm["guide_assignment"] = pd.DataFrame(screen.obsm["guide_assignment"].toarray(), index=screen.obs_names, columns=list(screen.uns["guide_names"]))
    table.uns["guide2gene"] = pd.DataFrame({"guide_name": list(screen.uns["guide2gene"]), "gene_name": list(screen.uns["guide2gene"].values())})
    screen.write_h5ad(tmp_path / "screen.h5ad")
    for source in (table, tmp_path / "screen.h5ad", str(tmp_path / "screen.h5ad")):
        other = prepare_crt_inputs(source)
        np.testing.assert_array_equal(other.rows, inputs.rows)
        assert other.program_names == inputs.program_names and (other.guides != inputs.guides).nnz == 0
        np.testing.assert_array_equal(np.asarray(other.batch_raw).astype(str), np.asarray(inputs.batch_raw).astype(str))


def test_the_raw_tables_do_not_move_the_design(screen_copy, inputs):
    assert prepare_crt_inputs(screen_copy, batch_key="nothing").batch_raw is None
    np.testing.assert_array_equal(prepare_crt_inputs(screen_copy, batch_key="nothing").C, inputs.C)


def test_transform_none(screen_copy):
    scores = np.random.default_rng(0).normal(size=(screen_copy.n_obs, 2))
    screen_copy.obsm["scores"] = scores
    del screen_copy.uns["program_names"]
    inputs = prepare_crt_inputs(screen_copy, usage_key="scores", transform="none")
    np.testing.assert_allclose(inputs.Y, scores, rtol=1e-6)
    assert inputs.program_names == ("program_0", "program_1")
    screen_copy.obsm["scores"] = scores + np.array([0, 1e6])
    with pytest.warns(ScreenWarning, match="outcomes were centred"):
        inputs = prepare_crt_inputs(screen_copy, usage_key="scores", transform="none")
    np.testing.assert_allclose(inputs.Y, scores - np.array([0, scores[:, 1].mean()]), atol=1e-6)


def test_low_moi_with_the_complement_is_a_warning(screen_copy):
    guides = screen_copy.obsm["guide_assignment"].tolil()
    first = [row[:1] for row in guides.rows]
    one = sp.csr_matrix((np.ones(sum(map(len, first))), ([i for i, r in enumerate(first) for _ in r], [c for r in first for c in r])), shape=guides.shape)
    screen_copy.obsm["guide_assignment"] = one
    with pytest.warns(ScreenWarning, match="low-MOI.*ntc_cells"):
        prepare_crt_inputs(screen_copy)
    prepare_crt_inputs(screen_copy, control_group="ntc_cells")  # no warning: warnings are errors here


def spoil(screen, what):
    usage = screen.obsm["cnmf_usage"].copy()
    guides = screen.obsm["guide_assignment"].copy()
    if what in ("nan", "inf", "negative"):
        usage[7, 2] = {"nan": np.nan, "inf": np.inf, "negative": -0.1}[what]
        screen.obsm["cnmf_usage"] = usage
    elif what == "guide nan":
        guides.data[0] = np.nan
        screen.obsm["guide_assignment"] = guides
    elif what == "unknown guide":
        screen.uns["guide2gene"] = {k: v for k, v in screen.uns["guide2gene"].items() if k != "GENE0_g1"}
    elif what == "guide names":
        screen.uns["guide_names"] = screen.uns["guide_names"][:-1]
    elif what == "repeated guide":
        screen.uns["guide_names"] = np.append(screen.uns["guide_names"][:-1], screen.uns["guide_names"][0])
    elif what == "map type":
        screen.uns["guide2gene"] = np.arange(3)
    elif what in ("cnmf_usage", "covar", "guide_assignment"):
        del screen.obsm[what]
    elif what == "map":
        del screen.uns["guide2gene"]
    elif what == "program names":
        screen.uns["program_names"] = np.array(["a"])
    elif what == "covar nan":
        table = screen.obsm["covar"].copy()
        table.iloc[3, 1] = np.nan
        screen.obsm["covar"] = table
    return screen


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", r"obsm\['cnmf_usage'\] is NaN or infinite in row 7 \(cell7\)"),
        ("inf", "infinite in row 7"),
        ("negative", "negative in row 7"),
        ("guide nan", r"obsm\['guide_assignment'\] holds NaN"),
        ("unknown guide", r"1 of 28 guides are not in uns\['guide2gene'\]: GENE0_g1"),
        ("guide names", "27 names but .* has 28 columns"),
        ("repeated guide", "guide names repeat"),
        ("map type", "DataFrame or a dict"),
        ("cnmf_usage", r"obsm\['cnmf_usage'\] is missing.*usage_key"),
        ("covar", r"obsm\['covar'\] is missing"),
        ("guide_assignment", r"obsm\['guide_assignment'\] is missing"),
        ("map", r"uns\['guide2gene'\] is missing"),
        ("program names", "1 names but"),
        ("covar nan", r"\['log_depth'\] is missing or NaN in row 3 \(cell3\)"),
    ],
)
def test_errors(screen_copy, what, message):
    with pytest.raises(InputError, match=message):
        prepare_crt_inputs(spoil(screen_copy, what))


def test_bad_options(screen_copy):
    for options, message in (({"transform": "log"}, "clr"), ({"control_group": "ntc"}, "ntc_cells"), ({"eps_quantile": 2}, "eps_quantile")):
        with pytest.raises(InputError, match=message):
            prepare_crt_inputs(screen_copy, **options)
    with pytest.raises(InputError, match="does not exist"):
        prepare_crt_inputs("nowhere.h5ad")
    screen_copy.uns["guide2gene"] = {k: ("OTHER" if v == "non-targeting" else v) for k, v in screen_copy.uns["guide2gene"].items()}
    with pytest.raises(InputError, match="only NTC guides"):
        prepare_crt_inputs(screen_copy, control_group="ntc_cells")


def test_burden_covariate(screen_copy):
    shared = screen_copy.obsm["covar"].drop(columns=BURDEN_KEY)
    screen_copy.obsm["covar"] = shared
    before = shared.copy()
    burden = add_burden_covariate(screen_copy)
    dense = screen_copy.obsm["guide_assignment"].toarray()
    targeting = np.array([screen_copy.uns["guide2gene"][g] != "non-targeting" for g in screen_copy.uns["guide_names"]])
    np.testing.assert_allclose(burden, np.log1p(dense[:, targeting].sum(1)))
    np.testing.assert_array_equal(screen_copy.obsm["covar"][BURDEN_KEY], burden)
    assert shared.equals(before)
    every = add_burden_covariate(screen_copy, name="log1p_grna_n_nonzero_assign", count="all")
    np.testing.assert_allclose(every, np.log1p(dense.sum(1)))
    with pytest.raises(InputError, match="non_ntc"):
        add_burden_covariate(screen_copy, count="some")
    screen_copy.obsm["covar"] = shared.drop(columns="batch").to_numpy()
    with pytest.raises(InputError, match="DataFrame"):
        add_burden_covariate(screen_copy)


def test_usage_from_a_table(screen, screen_copy, inputs, tmp_path):
    """cNMF's text file in another order, not normalised: the same rows."""
    names = list(screen.uns["program_names"])
    usage = pd.DataFrame(screen.obsm["cnmf_usage"].astype(float), index=screen.obs_names, columns=names)
    scale = 2.0 ** np.random.default_rng(0).integers(-3, 4, size=len(usage))  # powers of two: dividing by the sums gives the same floats
    shuffled = usage.mul(scale, axis=0).sample(frac=1, random_state=0)
    path = tmp_path / "run.usages.k_5.dt_0_1.consensus.txt"
    shuffled.to_csv(path, sep="\t")
    del screen_copy.obsm["cnmf_usage"]
    for given in (path, str(path), shuffled):
        with pytest.warns(ScreenWarning, match=r"the usage table.*rows do not sum to 1.*divided by their sums"):
            other = prepare_crt_inputs(screen_copy, usage=given)
        np.testing.assert_array_equal(other.rows, inputs.rows)
        assert other.program_names == inputs.program_names
    shuffled.set_axis(range(1, 6), axis=1).to_csv(path, sep="\t")
    assert prepare_crt_inputs(screen_copy, usage=path, transform="none").program_names[0] == "program_1"
    with pytest.raises(InputError, match=r"the usage table .*lacks 10 of the screen's 1,500 cells"):
        prepare_crt_inputs(screen_copy, usage=shuffled.iloc[10:])


def test_guides_and_map_from_files(screen, screen_copy, inputs, tmp_path):
    matrix = pd.DataFrame(screen.obsm["guide_assignment"].toarray().astype(int), index=screen.obs_names, columns=list(screen.uns["guide_names"]))
    matrix.T.to_csv(tmp_path / "guides.csv")
    table = pd.DataFrame(list(screen.uns["guide2gene"].items()), columns=["grna_id", "grna_target"])
    table.to_csv(tmp_path / "map.csv", index=False)
    del screen_copy.obsm["guide_assignment"], screen_copy.uns["guide2gene"]
    other = prepare_crt_inputs(screen_copy, guides=tmp_path / "guides.csv", guide_map=tmp_path / "map.csv")
    assert (other.guides != inputs.guides).nnz == 0 and other.guide2gene == inputs.guide2gene
    assert other.guide_names.tolist() == inputs.guide_names.tolist() and other.genes == inputs.genes
    with pytest.raises(InputError, match=r"1 of 28 guides are not in the guide map .*map\.csv: GENE0_g1"):
        table[table["grna_id"] != "GENE0_g1"].to_csv(tmp_path / "map.csv", index=False)
        prepare_crt_inputs(screen_copy, guides=tmp_path / "guides.csv", guide_map=tmp_path / "map.csv")
    burden = add_burden_covariate(screen_copy, covar_key=None, guides=matrix, guide_map=table, name="burden")
    np.testing.assert_allclose(screen_copy.obs["burden"], screen.obsm["covar"][BURDEN_KEY])
    assert burden.name == "burden"


def test_the_map_in_uns_may_have_either_name(screen_copy, inputs):
    screen_copy.uns["guide_map"] = screen_copy.uns.pop("guide2gene")
    assert prepare_crt_inputs(screen_copy).guide2gene == inputs.guide2gene
    with pytest.raises(InputError, match=r"uns\['mine'\] is missing; uns has: .*guide_map.*guide2gene_key"):
        prepare_crt_inputs(screen_copy, guide2gene_key="mine")


def test_covariates_in_obs(screen_copy, inputs, tmp_path):
    columns = list(screen_copy.obsm["covar"].columns)
    for name in columns:
        screen_copy.obs[name] = screen_copy.obsm["covar"][name]
    del screen_copy.obsm["covar"]
    screen_copy.write_h5ad(tmp_path / "screen.h5ad")
    for source in (screen_copy, tmp_path / "screen.h5ad"):
        other = prepare_crt_inputs(source, covariates=columns)
        np.testing.assert_array_equal(other.rows, inputs.rows)
        assert other.covar_names == inputs.covar_names and list(other.covar_df_raw.columns) == columns
        np.testing.assert_array_equal(np.asarray(other.batch_raw).astype(str), np.asarray(inputs.batch_raw).astype(str))
    assert prepare_crt_inputs(screen_copy, covariates="log_depth").covar_names == ("intercept", "log_depth")
    assert prepare_crt_inputs(screen_copy, covariates=["log_depth"]).batch_raw is None
    for given, message in (
        (["depth"], r"obs\['depth'\] is missing; obs has: .*log_depth"),
        ([], "covariates is empty"),
        (["batch", "batch"], "covariates lists batch twice"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_crt_inputs(screen_copy, covariates=given)
    screen_copy.obs.loc[screen_copy.obs_names[3], "log_depth"] = np.nan
    with pytest.raises(InputError, match=r"obs\['log_depth'\] is missing or NaN in row 3"):
        prepare_crt_inputs(screen_copy, covariates=columns)


def test_genes_of_the_map_without_a_guide_are_a_warning(screen):
    screen = screen.copy()
    screen.uns["guide2gene"] = {**screen.uns["guide2gene"], "lost_g1": "LOST"}
    with pytest.warns(ScreenWarning, match=r"1 genes of .* have no guide in .* and are not tested: LOST"):
        assert "LOST" not in prepare_crt_inputs(screen).genes


def test_outcomes_by_name(screen_copy, inputs):
    """Columns of the usage, of obs, or genes of a layer; in the order that is given."""
    names, usage = inputs.program_names, screen_copy.obsm["cnmf_usage"]
    screen_copy.obs["score"] = np.arange(screen_copy.n_obs, dtype=float) % 7
    found = prepare_crt_inputs(screen_copy, outcomes=["score", names[2]], transform="none")
    assert found.program_names == ("score", names[2])
    np.testing.assert_allclose(found.Y, np.column_stack([screen_copy.obs["score"], usage[:, 2]]), rtol=1e-6)
    table = pd.DataFrame(usage, index=screen_copy.obs_names, columns=[f"p{k}" for k in range(5)])
    found = prepare_crt_inputs(screen_copy, usage=table, outcomes="p4", transform="none")
    np.testing.assert_allclose(found.Y[:, 0], usage[:, 4], rtol=1e-6)
    genes = ad.AnnData(sp.csr_matrix((screen_copy.n_obs, 3)), obs=screen_copy.obs, obsm=screen_copy.obsm, uns=screen_copy.uns)
    genes.var_names, genes.layers["logs"] = ["STAT1", "JAK2", "IRF1"], np.arange(3.0 * genes.n_obs).reshape(-1, 3)
    found = prepare_crt_inputs(genes, usage_key="logs", outcomes=["IRF1"], transform="none")
    assert found.program_names == ("IRF1",) and np.ptp(found.Y[:, 0]) == pytest.approx(3.0 * (genes.n_obs - 1))
    for outcomes, message in (
        (["scores"], "no outcome scores; there are: .*Did you mean 'score'"),
        ([], "outcomes is empty"),
        (["score"] * 2, "lists score twice"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_crt_inputs(screen_copy, outcomes=outcomes, transform="none")


def test_programs_narrow_what_is_tested(screen, inputs):
    """After the transformation: the centred log-ratios are those of all programs."""
    found = prepare_crt_inputs(screen, programs=["program_3", "program_1"])
    assert found.program_names == ("program_1", "program_3")
    np.testing.assert_array_equal(found.Y, inputs.Y[:, [1, 3]])
    with pytest.raises(InputError, match="there is no program Program_1; .*Did you mean 'program_1'"):
        prepare_crt_inputs(screen, programs=["Program_1"])


def test_guides_as_labels(screen_copy):
    """A column of obs with the one target of each cell: each label is its own target, unless a map is given."""
    screen_copy.obs["perturbation"] = pd.Categorical(np.resize(["STAT1", "JAK2", "control", None], screen_copy.n_obs))
    del screen_copy.uns["guide2gene"], screen_copy.uns["guide_names"]
    found = prepare_crt_inputs(screen_copy, guide_assignment_key="perturbation", ntc_labels=["control"], control_group="ntc_cells")
    assert found.genes == ("JAK2", "STAT1") and found.ntc_cells.tolist() == list(range(2, screen_copy.n_obs, 4)) and found.moi == pytest.approx(0.75, abs=0.01)
    given = pd.DataFrame({"sgRNA": ["STAT1", "JAK2", "control"], "target": ["A", "A", "non-targeting"]})
    found = prepare_crt_inputs(screen_copy, guide_assignment_key="perturbation", guide_map=given, control_group="ntc_cells")
    assert found.genes == ("A",)
    screen_copy.obs["name"] = screen_copy.obs_names
    with pytest.raises(InputError, match=r"obs\['name'\] has .* different labels"):
        prepare_crt_inputs(screen_copy, guide_assignment_key="name")
