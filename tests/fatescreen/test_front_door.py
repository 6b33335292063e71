"""The package from Python: the options of the commands, results that are stored and read, plots."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

import fatescreen
from fatescreen import plot
from hierarchy import FitSettings, fit, summarise
from tests.commands import command


@pytest.fixture(scope="module")
def fates():
    return fatescreen.simulate_fate_screen(fatescreen.ScreenDesign(n_cells=800, n_genes=8, guides_per_gene=3, n_days=2), seed=1).adata


@pytest.fixture(scope="module")
def fitted(fates):
    return fatescreen.fit_screen(fates, seed=3, ref_fate="EC")


@pytest.fixture(scope="module")
def tested(screen):
    return fatescreen.test_programs(screen, targets=["GENE1", "GENE4", "GENE6"], programs="program_0,program_2")


def test_python_and_the_commands_have_the_same_options(screen, tested, tmp_path):
    screen.write_h5ad(tmp_path / "screen.h5ad")
    done = command("run-crt", tmp_path / "screen.h5ad", "--out", tmp_path / "o", "--targets", "GENE1,GENE4,GENE6", "--programs", "program_0,program_2")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "o" / "crt_results.csv")
    np.testing.assert_allclose(table["p"], tested.table["p"], rtol=1e-8)
    with pytest.raises(fatescreen.InputError, match="test_programs: there is no option 'sed'. Did you mean 'seed'"):
        fatescreen.test_programs(screen, sed=1)
    with pytest.raises(fatescreen.InputError, match="test_programs: n_jobs is 0; it must be a whole number"):
        fatescreen.test_programs(screen, n_jobs=0)


def test_a_fit_and_its_hits(fates, fitted):
    data = fitted.model.data
    assert fitted.elbo == fit(data, settings=FitSettings(seed=3)).elbo
    table = fates.uns["guide_map"]
    assert fatescreen.fit_screen(fates, seed=3, guide_map=table).elbo == fitted.elbo
    assert fitted.model.time_scale is None and fatescreen.fit_screen(fates, seed=3, day_gaps="5").model.time_scale == 1
    hits = fatescreen.call_hits(fitted, contrast_fate="NEU", covariances="canonical")
    assert hits.estimates.contrast == "NEU:EC" and len(hits.table) == 8
    of_commands = {"calibrate_on_ntc": fatescreen.fit_screen, "check_calibration": fatescreen.test_programs, "joint": fatescreen.call_hits}
    for option, call in of_commands.items():
        with pytest.raises(fatescreen.InputError, match=f"{option}: only the command has this"):
            call(fates, **{option: True})
    with pytest.raises(fatescreen.InputError, match="names 2 contrasts"):
        fatescreen.call_hits(fitted, contrast_fate="MES,NEU")


@pytest.mark.parametrize("other", ["guide", "guide_assignment"])
def test_both_analyses_find_the_usual_keys_of_the_guides(fates, screen, other, fitted, tested):
    first, second = fates.copy(), screen.copy()
    for adata, key in ((first, "guide"), (second, "guide_assignment")):
        adata.obsm[other] = adata.obsm.pop(key)
    assert fatescreen.fit_screen(first, seed=3).elbo == fitted.elbo
    again = fatescreen.test_programs(second, targets=["GENE1", "GENE4", "GENE6"], programs=["program_0", "program_2"])
    pd.testing.assert_frame_equal(again.table, tested.table)


def test_results_are_stored_and_read(fitted, tested, tmp_path):
    adata, effects = ad.AnnData(np.zeros((2, 1))), summarise(fitted)
    fatescreen.store_fit_in_adata(adata, effects)
    fatescreen.store_results_in_adata(adata, tested)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    found, result = fatescreen.read_fit_from_adata(again), fatescreen.read_results_from_adata(again)
    pd.testing.assert_frame_equal(found.long_table(["MES", "MES:NEU"]), effects.long_table(["MES", "MES:NEU"]), check_exact=True)
    pd.testing.assert_frame_equal(found.qc_delta("NEU"), effects.qc_delta("NEU"), check_exact=True)
    pd.testing.assert_frame_equal(result.table, tested.table, check_exact=True, check_dtype=False, check_column_type=False)
    pd.testing.assert_frame_equal(result.pvals_df, tested.pvals_df, check_exact=True)
    pd.testing.assert_frame_equal(result.treated_df, tested.treated_df, check_exact=True, check_dtype=False)
    assert result.settings == tested.settings
    for read in (fatescreen.read_fit_from_adata, fatescreen.read_results_from_adata):
        with pytest.raises(fatescreen.InputError, match="missing"):
            read(again, key="none")
        again.uns["other"] = {"x": 1}
        with pytest.raises(fatescreen.InputError, match="it lacks"):
            read(again, key="other")


def test_plots_return_axes(fitted, tested):
    effects, controls = summarise(fitted), tested.table[["target", "program"]].head(2)
    hits = fatescreen.call_hits(fitted, covariances="canonical")
    gene = effects.genes[0]
    drawn = [plot.volcano(tested, "program_2"), plot.qq(tested), plot.forest(effects, gene), plot.trace(fitted), plot.power(tested, controls)]
    drawn += [plot.heatmap(hits), plot.heatmap(effects, "NEU", most=3)]
    assert all(isinstance(axes, Axes) and axes.get_label() for axes in drawn)
    assert len(drawn[-1].get_yticks()) == 3 and fatescreen.plot is plot
    ours = drawn[0]
    again = plot.volcano(tested, "program_0", ax=ours, title="both")
    assert again is ours and ours.get_title() == "both"
    with pytest.raises(fatescreen.InputError, match="no program 'Program_2'; .*Did you mean 'program_2'"):
        plot.volcano(tested, "Program_2")
    with pytest.raises(fatescreen.InputError, match="none of the controls was tested"):
        plot.power(tested, controls.assign(target="none"))
