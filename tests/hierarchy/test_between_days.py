"""Tests between days: against one gene's formulas, for null genes, and with days that have no estimate."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, norm

from data_prep import InputError, ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from hierarchy import day_contrasts, fit, summarise


def effects_of(seed, **design):
    """Effects of a screen, and which genes have none on any day."""
    screen = simulate_fate_screen(ScreenDesign(n_genes=40, guides_per_gene=3, n_days=3, **design), seed=seed)
    null = screen.truth.groupby("gene")["theta"].apply(lambda theta: (theta == 0).all())
    return summarise(fit(build_fate_data(read_screen(screen.adata), ref_fate="EC"))), null.index[null]


@pytest.fixture(scope="module")
def screens():
    return [effects_of(seed, n_cells=3000, frac_active=0.1) for seed in (3, 4)]


def test_each_row_is_its_formula(screens):
    effects = screens[0][0]
    table = day_contrasts(effects, ["MES", "MES:NEU"])
    assert table.groupby(["contrast", "days"], sort=False).size().to_dict() == {
        (contrast, days): 40 for contrast in ("MES:EC", "MES:NEU") for days in ("d1-d0", "d2-d0", "d2-d1", "any")
    }
    g, weights = 7, np.array([1.0, -1.0])
    b = weights @ effects.theta_estimate[g]
    v = np.einsum("fdhe,f,h->de", effects.theta_estimate_covariance[g].reshape(2, 3, 2, 3), weights, weights)
    own = table[(table["gene"] == effects.genes[g]) & (table["contrast"] == "MES:NEU")].set_index("days")
    a = np.array([-1.0, 0.0, 1.0])
    z = a @ b / np.sqrt(a @ v @ a)
    assert own.loc["d2-d0", ["betahat", "se", "statistic", "p"]].to_list() == pytest.approx([a @ b, np.sqrt(a @ v @ a), z, 2 * norm.sf(abs(z))])
    wald = b @ np.linalg.inv(v) @ b
    assert own.loc["any", ["statistic", "df", "p"]].to_list() == pytest.approx([wald, 3, chi2.sf(wald, 3)])
    assert (table["p_adj"] >= table["p"]).all()


def test_null_genes_are_called_at_the_nominal_rate(screens):
    """Of about 50 genes in two contrasts, p ≤ 0.05 in 5 %; the limit of 12 % is passed by chance with a probability below 1 %."""
    for days in ("any", "d1-d0", "d2-d1"):
        tables = [(day_contrasts(effects, ["MES", "NEU"]), null) for effects, null in screens]
        p = np.concatenate([table["p"][(table["days"] == days) & table["gene"].isin(null)] for table, null in tables])
        assert p.size > 80 and (p <= 0.05).mean() < 0.12 and 0.35 < p.mean() < 0.65


def test_an_effect_that_changes_is_found():
    effects, _ = effects_of(5, n_cells=3000, effects="late", frac_active=0.3, concentration=200.0, sigma_guide=0.0)
    table = day_contrasts(effects, "MES").pivot(index="gene", columns="days", values="p_adj")
    assert (table["d2-d0"] < 0.05).sum() >= 8 and (table["any"] < 0.05).sum() >= 10


def test_days_without_estimates(screens):
    effects = screens[0][0]
    estimate, covariance = effects.theta_estimate.copy(), effects.theta_estimate_covariance.copy()
    estimate[0, :, 1], estimate[1] = np.nan, np.nan
    holes = replace(effects, theta_estimate=estimate, theta_estimate_covariance=covariance)
    table, whole = (day_contrasts(one, "MES").set_index(["gene", "days"]) for one in (holes, effects))
    first, second = effects.genes[:2]
    assert table.loc[(first, "any"), "df"] == 2 and np.isnan(table.loc[(first, "d1-d0"), "p"])
    assert table.loc[(first, "d2-d0"), "p"] == whole.loc[(first, "d2-d0"), "p"]
    assert table.loc[(second, "any"), "df"] == 0 and table.loc[second, ["p", "p_adj"]].isna().all().all()
    with pytest.raises(InputError, match="contrasts is empty"):
        day_contrasts(effects, [])
