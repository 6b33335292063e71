"""The reports of the test and of its null: their numbers are those of the run."""

import dataclasses
import json
import re

import numpy as np
import pytest

from benchmarks.null_screens import KINDS, Kind, Plan, make
from crt import run_all_genes_union_crt
from crt.null.diagnostics import diagnose_null
from crt.null.ensemble import compute_ntc_group_null_pvals_parallel
from crt.null.groups import make_ntc_groups_ensemble
from crt.results import strongest_first
from crt.resume import inputs_digest
from crt.settings import UnitSettings
from fatescreen.report.crt_report import control_text, crt_report
from fatescreen.report.null_report import null_report

RECORD = {"command": "run-crt", "options": {"n_resamples": 199}, "versions": {"fatescreen": "9.9"}, "warnings": ["mind the gap"]}


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("<main") : page.index("</main>")]))


@pytest.fixture(scope="module")
def result(inputs):
    return run_all_genes_union_crt(inputs, B=199, calibrate_skew_normal=True)


@pytest.fixture(scope="module")
def page(inputs, result):
    return crt_report(inputs=inputs, result=result, record=RECORD)


@pytest.fixture(scope="module")
def sound():
    kind = KINDS["high MOI, 2 batches"]
    inputs = make(dataclasses.replace(kind.plan, cells=1200), 0)
    return inputs, diagnose_null(inputs, kind.settings(0, 199), group_size=3, n_ensemble=3)


def test_the_table_holds_the_tests_smallest_p_first(result, page):
    data = data_of(page)
    own = data["tables"]["tests"]["data"]
    want = result.table.sort_values("log10_p", kind="stable")
    assert len(own["target"]) == len(want) == 40
    at = {(t, p): i for i, (t, p) in enumerate(zip(result.table["target"], result.table["program"], strict=True))}
    rows = [at[data["strings"][t], data["strings"][p]] for t, p in zip(own["target"], own["program"], strict=True)]
    for name in ("beta", "z", "p_raw", "p_skew", "p_adj", "n_treated"):
        np.testing.assert_allclose(own[name], result.table[name].to_numpy()[rows], rtol=1e-4)
    np.testing.assert_allclose(own["y"], -want["log10_p"], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(own["y"], -result.table["log10_p"].to_numpy()[rows], rtol=1e-4, atol=1e-9)


def test_the_summary(inputs, result, page):
    words = words_of(page)
    found = int((result.table["p_adj"] < 0.1).sum())
    assert found > 0 and f"{found} discoveries at a 10 % false discovery rate" in words and "40 tests of 8 targets on 5 programs" in words
    smallest = result.table[result.table["log10_p"] == result.table["log10_p"].min()]
    best = smallest.loc[smallest["z"].abs().idxmax()]
    assert f"The strongest is {best['target']} on {best['program']}" in words and "no guide of the target" in words
    assert "mind the gap" in words and inputs_digest(inputs) in words and "sampler.name" in words and f"{inputs.moi:.2f}" in words
    plot = data_of(page)["plots"]["volcano"]
    assert [c["only"][1] for c in plot["choices"]] == list(inputs.program_names)


def test_of_equal_p_the_strongest_has_the_largest_z(inputs):
    """Empirical p-values end at one floor, which many tests share."""
    result = run_all_genes_union_crt(inputs, B=99)
    floor = result.table[result.table["p_raw"] == 0.01]
    best = floor.loc[floor["z"].abs().idxmax()]
    assert len(floor) > 1 and best.name != floor.index[0]
    assert f"The strongest is {best['target']} on {best['program']}: " in words_of(crt_report(inputs=inputs, result=result, record=RECORD))
    ranked = strongest_first(result.table)
    assert ranked.index[0] == best.name and (ranked["log10_p"].diff().dropna() >= 0).all()


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({"transform": "clr"}, "in centred log-ratio of usage"),
        ({"transform": "none"}, "on the outcome’s own scale"),
        ({}, "on the scale of the tested outcome"),
    ],
)
def test_the_scale_of_beta_is_that_of_the_transform(inputs, result, options, scale):
    page = crt_report(inputs=inputs, result=result, record=RECORD | {"options": options})
    assert f"β is the difference {scale} between treated and control cells" in words_of(page)
    assert page.count(scale) == 3  # in the summary, and in the help of the column


def test_treated_cells_of_each_gene(inputs, page):
    data = data_of(page)
    own = data["tables"]["cells-per-gene"]["data"]
    for gene, treated, guides in zip(own["gene"], own["treated"], own["guides"], strict=True):
        columns = inputs.gene_to_cols[data["strings"][gene]]
        assert treated == inputs.treated(columns).size and guides == len(columns)


def test_undefined_targets_are_named_with_their_reason(inputs, result):
    lost = result.table["target"] == "G0003" if "G0003" in set(result.table["target"]) else result.table["target"] == result.table["target"].iloc[0]
    name = result.table.loc[lost, "target"].iloc[0]
    table = result.table.copy()
    table.loc[lost, ["beta", "z", "p_raw", "p_skew", "p_adj", "log10_p"]] = np.nan
    table.loc[lost, "reason"] = "no_treated"
    units = result.treated_df.copy()
    units.loc[name, "reason"] = "no_treated"
    page = crt_report(inputs=inputs, result=dataclasses.replace(result, table=table, treated_df=units), record=RECORD)
    assert f"Not tested (no_treated): {name}." in words_of(page) and "no cell carries a guide of the target" in page and "nan" not in words_of(page)
    own = data_of(page)["tables"]["tests"]["data"]
    assert own["y"][-5:] == [None] * 5 and None not in own["y"][:-5]


def test_nothing_found_and_nothing_defined(inputs, result):
    table = result.table.assign(**dict.fromkeys(("beta", "z", "p_raw", "p_skew", "p_adj", "log10_p"), np.nan), reason="singular")
    bare = dataclasses.replace(result, table=table, treated_df=result.treated_df.assign(reason="singular", n_resamples=0))
    words = words_of(crt_report(inputs=inputs, result=bare, record={}))
    assert "0 discoveries" in words and "treatment is determined by the covariates" in words and "nan" not in words


def test_control_group_in_text(inputs):
    low = dataclasses.replace(inputs, control_group="complement", guides=inputs.guides[:, :5])
    assert "use --control-group ntc_cells" in control_text(low) and "--control-group" not in control_text(inputs)
    assert f"the {inputs.ntc_cells.size:,} cells that carry NTC guides only" in control_text(dataclasses.replace(inputs, control_group="ntc_cells"))


def test_a_calibrated_null(sound):
    inputs, found = sound
    groups = make_ntc_groups_ensemble(inputs, n_ensemble=1, group_size=3, max_groups=3)[0]
    null = compute_ntc_group_null_pvals_parallel(inputs, groups, group_size=3, B=199)
    page = null_report(inputs=inputs, found=found, null=null, record=RECORD)
    words = words_of(page)
    assert "Calibrated" in words and f"among the tests of NTC groups: {found.verdict.figures['raw_rate_0.05']:.3g}" in words
    assert f"resamples (null) ({np.isfinite(null).sum():,})" in words and "resamples (null)" not in null_report(
        inputs=inputs, found=found, null=None, record={}
    )
    data = data_of(page)
    assert data["tables"]["units"]["rows"] == len(found.units) and [data["strings"][i] for i in data["tables"]["units"]["data"]["unit_id"]] == list(
        found.units["unit_id"]
    )
    curve = found.summary["curves"]["ntc_raw"]
    assert f"{curve['p<=0.05']['rate']:.4f}" in words and f"{curve['ks_distance']:.4f}" in words
    assert null_report(inputs=inputs, found=found, null=null, record=RECORD) == page


@pytest.mark.parametrize("name", ["A: near-empty groups", "B: separated", "C: groups too large", "D: heavy tails"])
def test_a_cause_is_named_with_its_figures_and_the_next_step(name):
    kind = KINDS[name]
    inputs = make(kind.plan, 100)
    found = diagnose_null(inputs, kind.settings(100), group_size=kind.group_size, n_ensemble=3)
    words = words_of(null_report(inputs=inputs, found=found, null=None, record=RECORD))
    finding = found.verdict.findings[0]
    assert words.index(f"Off. Cause {name[0]}: {finding.title}.") < 60 and "Calibrated:" not in words
    assert f"{next(iter(finding.figures)).replace('_', ' ')} {next(iter(finding.figures.values())):.3g}" in words and finding.next_step[:40] in words


def test_too_few_ntc_guides():
    inputs = make(KINDS["3 NTC guides"].plan, 1)
    found = diagnose_null(inputs, UnitSettings(method="saddlepoint"), n_ensemble=2)
    words = words_of(null_report(inputs=inputs, found=found, null=None, record=RECORD))
    assert words.index("Inconclusive: 3 NTC guides are too few to detect a miscalibration.") < 60 and "Calibrated:" not in words
    assert f"subset raw rate 0.05 {found.verdict.figures['subset_raw_rate_0.05']:.3g}" in words and "Option: --n-ensemble." in words


def test_a_null_without_any_defined_p():
    kind = Kind(truth="A", plan=Plan(cells=300, ntc_rarity=1e-9))
    inputs = make(kind.plan, 0)
    found = diagnose_null(inputs, UnitSettings(n_resamples=99), group_size=kind.group_size, n_ensemble=2)
    assert "Cause A" in null_report(inputs=inputs, found=found, null=None, record={})
