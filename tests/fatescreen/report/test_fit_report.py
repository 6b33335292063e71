"""The report of a fit: its numbers are those of the fit, and odd fits have a page too."""

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
from scipy import stats

from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from data_prep.errors import InputError
from fatescreen.report.fit_report import fit_report
from fatescreen.report.sections.effects import Contrast, ranked_frame
from fatescreen.report.sections.fit_input import cells_per_gene, excluded
from fatescreen.report.sections.fit_summary import weight_text
from hierarchy import FitSettings, fit, summarise
from hierarchy.inference.base import Outcome
from hierarchy.predictive_checks import check_fit
from hierarchy.self_check import Controls, check_ntc

RECORD = {"command": "fit-hierarchy", "options": {"seed": 1, "max_guides_per_cell": 20}, "versions": {"fatescreen": "9.9"}, "warnings": ["mind the gap"]}


def parts(fate="MES", settings=None, seed=2, **design):
    """All that the report takes, of a small simulated screen."""
    small = {"n_cells": 500, "n_genes": 15, "guides_per_gene": (1, 4), "n_ntc_guides": 5, "n_days": 3, "moi": 3.0}
    screen = read_screen(simulate_fate_screen(ScreenDesign(**(small | design)), seed=seed).adata, max_guides_per_cell=9)
    fitted = fit(build_fate_data(screen, ref_fate=screen.fate_names[0]), settings=settings or FitSettings(seed=1))
    return {
        "screen": screen,
        "fit": fitted,
        "effects": summarise(fitted),
        "checks": check_fit(fitted),
        "controls": Controls(ntc=check_ntc(fitted, screen)),
        "contrast_fate": fate,
        "record": RECORD,
    }


@pytest.fixture(scope="module")
def plain():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parts()


@pytest.fixture(scope="module")
def page(plain):
    return fit_report(**plain)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("<main") : page.index("</main>")]))


def test_the_table_holds_the_effects_best_first(plain, page):
    data, effects = data_of(page), plain["effects"]
    own = data["tables"]["genes"]["data"]
    f = effects.fates.index("MES")
    genes = [data["strings"][i] for i in own["gene"]]
    at = [list(effects.genes).index(g) for g in genes]
    for d in range(3):
        np.testing.assert_allclose(own[f"effect_{d}"], effects.theta_mean[at, f, d], rtol=1e-4)
        np.testing.assert_allclose(own[f"se_{d}"], effects.theta_sd[at, f, d], rtol=1e-4)
    z = effects.theta_mean[at, f] / effects.theta_sd[at, f]
    best = np.abs(z).argmax(1)
    assert (np.diff(np.abs(z).max(1)) <= 0).all() and [data["strings"][i] for i in own["day"]] == [effects.days[b] for b in best]
    np.testing.assert_allclose(own["lfsr"], stats.norm.sf(np.abs(z).max(1)), rtol=2e-4)


def test_p_of_far_tails():
    """A z of 60 has a p beyond floats, not an infinity."""
    contrast = Contrast(fate="a", reference="b", genes=np.array(["G"]), days=("d",), mean=np.array([[60.0]]), sd=np.array([[1.0]]))
    frame = ranked_frame(contrast)
    assert frame["y_0"].iloc[0] == pytest.approx(-(stats.norm.logsf(60) + np.log(2)) / np.log(10)) and frame["y_0"].iloc[0] > 700


def test_cells_of_each_gene_and_day(plain, page):
    screen, effects = plain["screen"], plain["effects"]
    table = cells_per_gene(effects).set_index("gene")
    carried = screen.guides.toarray() > 0
    for gene in effects.genes:
        has = carried[:, (screen.guide_gene == gene) & ~screen.is_ntc].any(1)
        assert table.loc[gene, "total"] == has.sum() and table.loc[gene, "guides"] == ((screen.guide_gene == gene) & ~screen.is_ntc).sum()
        assert [table.loc[gene, f"day_{d}"] for d in range(3)] == [int((has & (screen.day == d)).sum()) for d in range(3)]
    assert data_of(page)["tables"]["cells-per-gene"]["data"]["total"] == table["total"].tolist()


def test_the_summary_agrees_with_the_numbers(plain, page):
    words, effects = words_of(page), plain["effects"]
    f = effects.fates.index("MES")
    z = np.abs(effects.theta_mean[:, f] / effects.theta_sd[:, f])
    clear = f"{int((z > 1.96).any(1).sum())} of {len(z)} genes have |z| &gt; 1.96 on at least one day ({int((z > 1.96).sum())} gene-days; up to "
    assert f"{clear}{0.05 * z.size:.0f} would exceed this limit by chance if no gene had an effect)" in words and "run call-hits" in words
    assert f"The fit converged in {plain['fit'].steps} steps" in words and "mind the gap" in words and plain["fit"].model.data.fingerprint in words
    assert f"{plain['screen'].dropped['cells_over_max_guides']}" in words and "fatescreen 9.9" in words and "max_guides_per_cell" in words
    assert words.index("mind the gap") < words.index("Excluded")


def test_mean_fates_far_from_the_prediction(plain):
    checks = plain["checks"]
    far = [
        dataclasses.replace(checks, composition=checks.composition.assign(z=[*z, *[0.0] * (len(checks.composition) - len(z))]))
        for z in ([], [-4.0], [4.0, 3.1])
    ]
    words = [words_of(fit_report(**(plain | {"checks": dataclasses.replace(c, genes=c.genes.assign(z=0.0))}))) for c in far]
    n, m = len(checks.composition), len(checks.genes)
    assert "None of the mean fates is more than three SDs from its prediction." in words[0]
    assert f"1 mean fate is more than three SDs from the prediction (1 of {n} by day and replicate, 0 of {m} by top gene)." in words[1]
    assert "2 mean fates are more than three SDs" in words[2]


def test_no_effect_is_clear(plain):
    effects = dataclasses.replace(plain["effects"], theta_mean=np.zeros_like(plain["effects"].theta_mean))
    words = words_of(fit_report(**(plain | {"effects": effects})))
    assert f"0 of {len(effects.genes)} genes have |z| &gt; 1.96 on at least one day. For a list" in words and "gene-days have" not in words


def test_weight_text():
    assert "as informative as about 46 cells" in weight_text(46.0, fixed=False) and "φ = 1/w = 0.0217" in weight_text(46.0, fixed=False)
    assert "was set to 0.5" in weight_text(0.5, fixed=True) and "only 0.5 times as informative" in weight_text(0.5, fixed=True)


def test_excluded_data():
    rows = dict(excluded({"cells_over_max_guides": 1234, "genes_without_cells": ["A", "B"], "something_new": "x"}))
    assert rows["genes without any cell that carries one of their guides"] == "2: A, B" and rows["something new"] == "x" and "1,234" in rows.values()
    assert excluded({}) == [("nothing", "0")]


def test_forests_hold_the_guides(plain, page):
    effects = plain["effects"]
    best = Contrast.of(effects, "MES").ranked[0]
    own = effects.guides[effects.gene_of_guide == effects.genes[best]]
    assert page.count('aria-label="GENE') == 12 and all(f">{g}</text>" in page for g in own)
    assert "6 more genes" in page


def test_a_fit_that_did_not_converge_is_reported_first(plain):
    bad = dataclasses.replace(plain["fit"], outcome=Outcome.of("step_limit", 60))
    family = plain["checks"].family.assign(effective_fraction=0.1)
    words = words_of(fit_report(**(plain | {"fit": bad, "checks": dataclasses.replace(plain["checks"], family=family)})))
    assert (
        words.index("did NOT converge") < 60
        and "Interpret 15 genes with caution" in words
        and "15 genes have an effective sample size ratio below 0.5" in words
    )


def test_the_other_fate_and_an_unknown_one(plain):
    assert "Gene effects on NEU against EC" in fit_report(**(plain | {"contrast_fate": "NEU"}))
    with pytest.raises(InputError, match="the contrast 'EC'"):
        fit_report(**(plain | {"contrast_fate": "EC"}))


def test_other_contrasts_follow_the_first(plain):
    page = fit_report(**(plain | {"contrast_fate": ["MES", "MES:NEU"]}))
    assert "Gene effects on MES against EC" in page and "Effects on MES against NEU" in page
    tables, effects = data_of(page)["tables"], plain["effects"]
    order = [list(effects.genes).index(data_of(page)["strings"][i]) for i in tables["genes-1"]["data"]["gene"]]
    np.testing.assert_allclose(tables["genes-1"]["data"]["effect_0"], effects.of_genes("MES:NEU").mean[order, 0], rtol=1e-4)


def test_gene_days_without_cells_are_gaps(plain):
    effects = plain["effects"]
    cells = effects.gene_cells.copy()
    gene = int(Contrast.of(effects, "MES").ranked[0])
    cells[gene, 1] = 0
    page = fit_report(**(plain | {"effects": dataclasses.replace(effects, gene_cells=cells)}))
    own = data_of(page)["tables"]["genes"]["data"]
    at = [data_of(page)["strings"][i] for i in own["gene"]].index(effects.genes[gene])
    assert own["effect_1"][at] is None and own["se_1"][at] is None and own["y_1"][at] is None and own["effect_0"][at] is not None
    assert page.count("no cells</span>") == 1 and "d1: no estimate" in page and "nan" not in words_of(page)


def test_the_same_run_is_the_same_bytes(plain, page):
    """A fit's wall time is not in the page."""
    assert fit_report(**(plain | {"fit": dataclasses.replace(plain["fit"], seconds=1e6)})) == page


@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning")
@pytest.mark.parametrize(
    "odd", [{"n_days": 1, "n_reps": 1}, {"n_genes": 1, "fates": ("EC", "MES")}, {"settings": FitSettings(posterior="mean_field", max_steps=60)}]
)
def test_odd_screens_have_a_page(odd):
    page = fit_report(**parts(**odd))
    assert "nan" not in words_of(page) and data_of(page)["tables"]["genes"]["rows"] >= 1
