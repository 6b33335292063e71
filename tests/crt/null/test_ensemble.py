"""NTC groups: matching, partitions, and p-values by the path that genes take."""

import inspect
import logging
from dataclasses import replace

import numpy as np
import pytest

from crt import (
    build_ntc_group_inputs,
    compute_ntc_group_null_pvals_parallel,
    crt_pvals_for_ntc_groups_ensemble,
    crt_pvals_for_ntc_groups_ensemble_skew,
    make_ntc_groups_ensemble,
    make_ntc_groups_matched_by_freq,
    prepare_crt_inputs,
    run_all_genes_union_crt,
    run_one_gene_union_crt,
)
from crt.null.groups import check_groups
from data_prep.errors import InputError
from data_prep.simulate.usage import make_sceptre_style_synth
from tests.crt.problems import inputs_of, random_problem


@pytest.fixture(scope="module")
def many_ntc():
    """800 cells, 6 genes of 3 guides, 18 NTC guides."""
    return prepare_crt_inputs(make_sceptre_style_synth(N=800, K=4, n_target_genes=6, guides_per_gene=3, ntc_frac_guides=0.5, moi_mean=4.0, seed=3))


def with_frequencies(real, ntc):
    """Inputs with the given numbers of cells for each guide, of 1,000 cells; each gene has three guides."""
    C, Y, rng = random_problem(1000, 2, 2)
    counts = [*real, *ntc]
    guides = np.zeros((1000, len(counts)))
    for j, n in enumerate(counts):
        guides[rng.choice(1000, n, replace=False), j] = 1
    return inputs_of(C, Y, guides, [f"G{j // 3}" for j in range(len(real))] + ["non-targeting"] * len(ntc))


def test_frequencies_bins_and_signatures():
    inputs = with_frequencies([10, 20, 30, 100, 200, 300], [5, 150, 500])
    prepared = build_ntc_group_inputs(inputs, group_size=3, n_bins=2)
    np.testing.assert_allclose(prepared.frequency[:6], [0.01, 0.02, 0.03, 0.1, 0.2, 0.3])
    assert list(prepared.bins) == [0, 0, 0, 1, 1, 1, 0, 1, 1]
    assert prepared.signatures == {"G0": (0, 0, 0), "G1": (1, 1, 1)} and list(prepared.guides) == [6, 7, 8]


def test_groups_match_the_signature_of_a_gene():
    """Where rare and common NTC guides suffice, every group is all rare or all common, as genes are."""
    inputs = with_frequencies([10, 12, 14, 200, 210, 220], [9, 11, 12, 13, 14, 10, 190, 200, 210, 220, 230, 240])
    prepared = build_ntc_group_inputs(inputs, group_size=3, n_bins=2)
    for seed in range(20):
        groups = make_ntc_groups_matched_by_freq(prepared, seed=seed)
        assert len(groups) == 4 and sorted(np.concatenate(list(groups.values()))) == list(range(6, 18))
        assert all(len(set(prepared.bins[columns])) == 1 for columns in groups.values())


def test_the_nearest_bin_is_used():
    inputs = with_frequencies([10, 20, 40, 80, 160, 320], [15, 25, 90])
    prepared = build_ntc_group_inputs(inputs, group_size=1, n_bins=6)
    assert list(prepared.bins) == [0, 1, 2, 3, 4, 5, 0, 1, 3]
    for seed in range(5):
        groups = make_ntc_groups_matched_by_freq(replace(prepared, signatures={"G0": (5,)}), seed=seed)
        assert [int(c[0]) for c in groups.values()] == [8, 7, 6]


def test_genes_of_other_sizes_lend_their_bins():
    inputs = with_frequencies([10, 20, 30, 100, 200, 300], [10, 20, 30, 100, 200, 300, 15])
    for size in (1, 2, 5, 7):
        groups = make_ntc_groups_matched_by_freq(build_ntc_group_inputs(inputs, group_size=size), seed=1)
        assert len(groups) == 7 // size and all(np.unique(c).size == size for c in groups.values())


def test_an_ensemble_is_random_partitions(many_ntc):
    ensemble = make_ntc_groups_ensemble(many_ntc, group_size=3)
    assert len(ensemble) == 10
    for groups in ensemble:
        columns = np.concatenate(list(groups.values()))
        assert columns.size == 18 == np.unique(columns).size and set(columns) == set(many_ntc.ntc_cols)
    assert len({name for groups in ensemble for name in groups}) == 60
    assert len({tuple(map(tuple, sorted(c.tolist() for c in groups.values()))) for groups in ensemble}) > 5
    again, other = make_ntc_groups_ensemble(many_ntc, group_size=3), make_ntc_groups_ensemble(many_ntc, group_size=3, seed0=8)
    assert all((a[n] == b[n]).all() for a, b in zip(ensemble, again, strict=True) for n in a)
    assert any((a[n] != b[n]).any() for a, b in zip(ensemble, other, strict=True) for n in a)
    assert [len(groups) for groups in make_ntc_groups_ensemble(many_ntc, n_ensemble=2, group_size=3, max_groups=4)] == [4, 4]


def test_what_cannot_be_grouped_is_an_error(many_ntc):
    for options, message in (
        ({"group_size": 19}, "18 NTC guides, but group_size is 19"),
        ({"group_size": 0}, "group_size is 0"),
        ({"group_size": 3, "n_ensemble": 0}, "n_ensemble is 0"),
        ({"group_size": 3, "max_groups": 0}, "max_groups is 0"),
        ({"group_size": 3, "n_bins": 0}, "n_bins is 0"),
    ):
        with pytest.raises(InputError, match=message):
            make_ntc_groups_ensemble(many_ntc, **options)
    with pytest.raises(InputError, match="no NTC guides, so there are no NTC groups"):
        make_ntc_groups_ensemble(replace(many_ntc, ntc_cols=np.empty(0, np.int64)), group_size=1)


@pytest.mark.parametrize("use", [crt_pvals_for_ntc_groups_ensemble, crt_pvals_for_ntc_groups_ensemble_skew])
def test_a_group_of_another_size_is_an_error_that_names_it(many_ntc, use):
    ensemble = make_ntc_groups_ensemble(many_ntc, n_ensemble=2, group_size=3)
    with pytest.raises(InputError, match="'ntc_00_000' has 3 different guides, but group_size is 6"):
        use(many_ntc, ensemble, B=19)
    union = [{"everything": many_ntc.ntc_cols}]
    with pytest.raises(InputError, match="'everything' has 18"):
        use(many_ntc, union, group_size=3, B=19)
    with pytest.raises(InputError, match="'everything' has 18"):
        compute_ntc_group_null_pvals_parallel(many_ntc, union[0], group_size=3, B=19)
    twice = [{"twice": np.repeat(many_ntc.ntc_cols[:2], [2, 1])}]
    with pytest.raises(InputError, match="'twice' has 2 different guides"):
        use(many_ntc, twice, group_size=3, B=19)
    with pytest.raises(InputError, match="same name"):
        check_groups([ensemble[0], ensemble[0]], 3)
    with pytest.raises(InputError, match="no NTC groups"):
        check_groups([], 3)


def test_numbers_and_sizes_are_logged(many_ntc, caplog):
    with caplog.at_level(logging.INFO, logger="crt"):
        crt_pvals_for_ntc_groups_ensemble(many_ntc, make_ntc_groups_ensemble(many_ntc, n_ensemble=2, group_size=3), group_size=3, B=19)
    assert "12 NTC groups in 2 partitions; guides in a group: min 3, median 3, max 3" in caplog.text


def test_options_defaults_and_descriptions_are_those_of_the_main_run():
    main = inspect.signature(run_all_genes_union_crt).parameters
    own = {"inputs", "ensemble", "groups", "group_size", "gene"}
    uses = (crt_pvals_for_ntc_groups_ensemble, crt_pvals_for_ntc_groups_ensemble_skew, compute_ntc_group_null_pvals_parallel, run_one_gene_union_crt)
    for use in uses:
        mine = inspect.signature(use).parameters
        shared = set(mine) - own - {"calibrate_skew_normal"}
        assert {"B", "base_seed", "resampling_method", "side", "propensity_mode"} <= shared and all(mine[n] == main[n] for n in shared)
        assert ("n_jobs" in mine) == (use is not run_one_gene_union_crt) and ("adaptive" in mine) == (use is not compute_ntc_group_null_pvals_parallel)
        assert "    Number of resamples per unit." in use.__doc__
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_resamples'"):
        run_one_gene_union_crt("GENE0", None, n_resamples=9)


@pytest.mark.parametrize("method", ["bernoulli_index", "stratified_perm"])
def test_a_group_is_tested_as_a_gene_is(many_ntc, method):
    """A gene of the same name and guides as a group gets the group's p-values."""
    ensemble = make_ntc_groups_ensemble(many_ntc, n_ensemble=2, group_size=3)
    name, columns = next(iter(ensemble[1].items()))
    as_gene = replace(many_ntc, gene_to_cols={name: columns})
    for use, calibrate in ((crt_pvals_for_ntc_groups_ensemble, False), (crt_pvals_for_ntc_groups_ensemble_skew, True)):
        table = use(many_ntc, ensemble, group_size=3, B=199, resampling_method=method)
        assert table.shape == (12, 4) and list(table.index.names) == ["ensemble", "group"]
        unit = run_one_gene_union_crt(name, as_gene, B=199, resampling_method=method, calibrate_skew_normal=calibrate)
        np.testing.assert_array_equal(table.loc[1, name], unit.p_skew if calibrate else unit.p_raw)
        two = use(many_ntc, ensemble, group_size=3, B=199, resampling_method=method, n_jobs=2)
        np.testing.assert_array_equal(table, two)


def test_leave_one_out_p_values_are_uniform_by_construction(many_ntc):
    groups = make_ntc_groups_ensemble(many_ntc, n_ensemble=1, group_size=3)[0]
    p = compute_ntc_group_null_pvals_parallel(many_ntc, groups, group_size=3, B=99, n_jobs=2)
    assert p.shape == (6, 99, 4) and p.dtype == np.float32
    np.testing.assert_allclose(np.sort(p[0, :, 0]), np.arange(1, 100) / 99, rtol=1e-6)
    np.testing.assert_array_equal(p, compute_ntc_group_null_pvals_parallel(many_ntc, groups, group_size=3, B=99))


def test_an_empty_group_is_undefined_not_one():
    inputs = with_frequencies([10, 20, 30], [0, 0, 0, 20, 20, 20])
    empty = {"empty": inputs.ntc_cols[:3], "full": inputs.ntc_cols[3:]}
    table = crt_pvals_for_ntc_groups_ensemble(inputs, [empty], group_size=3, B=99)
    assert table.loc[0, "empty"].isna().all() and table.loc[0, "full"].notna().all()
    p = compute_ntc_group_null_pvals_parallel(inputs, empty, group_size=3, B=99)
    assert np.isnan(p[0]).all() and np.isfinite(p[1]).all()
