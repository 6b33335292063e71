"""Screens as they are: few cells, several genes in a cell, burden, guides one by one."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from crt import prepare_crt_inputs, run_all_genes_union_crt
from data_prep.errors import InputError, ScreenWarning
from tests.crt.problems import random_problem, tiny_inputs

SADDLEPOINT = {"method": "saddlepoint", "statistic": "mean"}


def screen(moi, *, cells=6000, genes=30, strong=10, ntc=0.3, seed=0, per_gene=1):
    """Poisson numbers of guides per cell, at least one; a third of the genes shift half of the 6 outcomes by 1.5 SD; NTC guides in a share of the draws."""
    rng = np.random.default_rng(seed)
    n_guides, n_ntc = genes * per_gene, 12
    weight = np.concatenate([np.full(n_guides, (1 - ntc) / n_guides), np.full(n_ntc, ntc / n_ntc)])
    rate = moi * weight
    there = rng.random((cells, rate.size)) < -np.expm1(-rate)
    none = ~there.any(1)
    there[none, rng.choice(rate.size, none.sum(), p=weight)] = True
    effect = np.zeros((genes, 6))
    effect[:strong] = 1.5 * (rng.random((strong, 6)) < 0.5) * rng.choice([-1, 1], (strong, 6))
    carried = there[:, :n_guides].reshape(cells, genes, per_gene).any(2)
    Y = rng.normal(size=(cells, 6)) + carried @ effect
    names = [f"G{g:02d}_{j}" for g in range(genes) for j in range(per_gene)] + [f"ntc{j}" for j in range(n_ntc)]
    mapping = {n: n[:3] if n.startswith("G") else "non-targeting" for n in names}
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(cells)]))
    adata.obsm["cnmf_usage"], adata.obsm["guide_assignment"] = Y, sp.csr_matrix(there.astype(np.float32))
    adata.obsm["covar"] = pd.DataFrame({"depth": rng.normal(size=cells)}, index=adata.obs_names)
    adata.uns["guide_names"], adata.uns["guide2gene"] = np.array(names), mapping
    return adata


def null_share(adata, strong=10, **options):
    inputs = prepare_crt_inputs(adata, transform="none", **options)
    p = run_all_genes_union_crt(inputs, **SADDLEPOINT).pvals_df.to_numpy()[strong:]
    return (p <= 0.05).mean()


@pytest.mark.parametrize("moi", [1.0, 1.6])
def test_cells_with_several_genes_are_left_out_at_low_moi(moi):
    """Null genes' p ≤ 0.05, 120 tests a screen, 8 screens: kept, 14 % and more of them (strong genes are in the treated cells only); dropped, 5 %."""
    kept, dropped = [], []
    for seed in range(8):
        adata = screen(moi, seed=seed)
        kept.append(null_share(adata, control_group="ntc_cells", multiple_guides="keep"))
        dropped.append(null_share(adata, control_group="ntc_cells"))
    assert np.mean(kept) > 0.12 and 0.03 < np.mean(dropped) < 0.07


def test_which_cells_are_left_out():
    adata = screen(2.0, cells=500, per_gene=2)
    there, names = adata.obsm["guide_assignment"].toarray() > 0, adata.uns["guide_names"]
    genes = [{n[:3] for n, t in zip(names, row, strict=True) if t and n.startswith("G")} for row in there]
    want = [i for i, g in enumerate(genes) if len(g) <= 1]
    with pytest.warns(ScreenWarning, match="low-MOI screen"):
        dropped = prepare_crt_inputs(adata, transform="none", multiple_guides="drop")
    assert list(dropped.cells) == [f"c{i}" for i in want] and dropped.n_several == 500 - len(want) > 50
    assert len(dropped.covar_df_raw) == len(want)
    np.testing.assert_array_equal(dropped.Y, adata.obsm["cnmf_usage"][want].astype(np.float32))
    kept = prepare_crt_inputs(adata, transform="none")
    assert kept.n_several == 0 and kept.cells.size == 500
    assert prepare_crt_inputs(adata, transform="none", control_group="ntc_cells").cells.size == len(want)
    with pytest.raises(InputError, match="multiple_guides is 'maybe'"):
        prepare_crt_inputs(adata, multiple_guides="maybe")


def test_a_screen_without_guides_is_an_error():
    adata = screen(1.0, cells=50)
    adata.obsm["guide_assignment"] = sp.csr_matrix((50, adata.obsm["guide_assignment"].shape[1]))
    with pytest.raises(InputError, match="no cell carries a guide") as found:
        prepare_crt_inputs(adata, transform="none")
    assert found.value.arguments == ("guide_assignment_key",)


def test_few_cells_are_not_tested():
    C, Y, rng = random_problem(300, 3, 2)
    sets = {f"g{n}": np.sort(rng.choice(300, n, replace=False)) for n in (1, 6, 7, 40, 293, 294)}
    inputs = tiny_inputs(C, Y, sets)
    result = run_all_genes_union_crt(inputs, min_treated=7, min_control=7, **SADDLEPOINT)
    reasons = {"g1": "few_treated", "g6": "few_treated", "g7": "", "g40": "", "g293": "", "g294": "few_control"}
    assert result.treated_df["reason"].to_dict() == reasons
    table = result.table
    assert table.loc[table["reason"] != "", ["beta", "p", "p_adj"]].isna().all(axis=None) and table.loc[table["reason"] == "", "p_adj"].notna().all()
    alone = run_all_genes_union_crt(inputs, ["g293", "g40", "g7"], **SADDLEPOINT).table
    pd.testing.assert_series_equal(table.loc[table["reason"] == "", "p_adj"], alone["p_adj"], check_index=False, check_exact=True)
    assert (run_all_genes_union_crt(inputs, **SADDLEPOINT).treated_df["reason"] == "").all()
    with pytest.raises(InputError, match="min_treated"):
        run_all_genes_union_crt(inputs, min_treated=0)


@pytest.mark.parametrize("method", ["saddlepoint", "resample"])
def test_the_burden_does_not_count_the_unit_itself(method):
    """The design of a unit, by hand; and p of a run with the covariate in the table."""
    adata = screen(3.0, cells=1500, per_gene=2, strong=0)
    inputs = prepare_crt_inputs(adata, transform="none", burden="others")
    there = adata.obsm["guide_assignment"].toarray()
    count = there[:, np.char.startswith(adata.uns["guide_names"].astype(str), "G")].sum(1)
    gene = "G03"
    own = inputs.without_own(inputs.gene_to_cols[gene])
    left = count - there[:, inputs.gene_to_cols[gene]].sum(1)
    want = (np.log1p(left) - np.log1p(count).mean()) / np.log1p(count).std()
    np.testing.assert_allclose(own.C[:, -1], want, atol=1e-6)
    assert inputs.covar_names[-1] == "log1p_other_guides" and np.array_equal(own.C[:, :-1], inputs.C[:, :-1])
    by_hand = adata.copy()
    by_hand.obsm["covar"] = by_hand.obsm["covar"].assign(others=np.log1p(left))
    options = {"method": method, "B": 199}
    p = run_all_genes_union_crt(inputs, [gene, "G07"], n_jobs=2, **options).pvals_df.loc[gene]
    np.testing.assert_allclose(p, run_all_genes_union_crt(prepare_crt_inputs(by_hand, transform="none"), [gene], **options).pvals_df.loc[gene], atol=1e-4)


def test_a_burden_that_counts_the_unit_is_part_of_the_treatment():
    """NTC cells carry no targeting guide and treated cells do: their number is almost the treatment itself. The number of other guides is not."""
    screens = [screen(1.4, strong=0, genes=40, ntc=0.5, seed=seed) for seed in range(6)]
    low = {"strong": 0, "control_group": "ntc_cells"}
    assert 0.03 < np.mean([null_share(adata, burden="others", multiple_guides="keep", **low) for adata in screens]) < 0.07
    adata = screens[0]
    targeting = adata.obsm["guide_assignment"].toarray()[:, :40].sum(1)
    adata.obsm["covar"] = adata.obsm["covar"].assign(burden=np.log1p(targeting))
    counted = run_all_genes_union_crt(prepare_crt_inputs(adata, transform="none", control_group="ntc_cells"), **SADDLEPOINT)
    assert (counted.treated_df["reason"] == "singular").all()


def test_guides_one_by_one():
    adata = screen(2.0, cells=2000, genes=4, strong=2, per_gene=3)
    inputs = prepare_crt_inputs(adata, transform="none")
    guides = run_all_genes_union_crt(inputs, ["G00", "G02"], unit="guide", **SADDLEPOINT)
    assert list(guides.pvals_df.index) == [f"G0{g}_{j}" for g in (0, 2) for j in range(3)]
    single = tiny_inputs(inputs.C.astype(float), inputs.Y.astype(float), {"G02_1": inputs.treated(inputs.gene_to_cols["G02"][1:2])})
    np.testing.assert_allclose(guides.pvals_df.loc["G02_1"], run_all_genes_union_crt(single, **SADDLEPOINT).pvals_df.loc["G02_1"], rtol=1e-3)
    with pytest.raises(InputError, match="unit is 'cell'"):
        run_all_genes_union_crt(inputs, unit="cell")
