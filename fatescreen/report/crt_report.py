"""A run of the test, and a diagnosis of its null, as one HTML page each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crt.inputs import LOW_MOI, CRTInputs
from crt.results import CRTResult, strongest_first
from crt.resume import inputs_digest
from data_prep.errors import first_few
from fatescreen.figures.charts import p_histogram, qq_figure
from fatescreen.report import Block, Figures, Notice, Page, Prose, Section, render
from fatescreen.report.numbers import shown, signed
from fatescreen.report.record import own_settings, settings_section, warnings_of
from fatescreen.report.sections.crt_reading import reading_section
from fatescreen.report.sections.tests import FDR, results_section

CRT_FILES = {
    "crt_results.csv": "one row a test",
    "pvals.csv": "p-values, targets × programs",
    "betas.csv": "coefficients, targets × programs",
    "run.json": "settings, versions, seed, what was undefined, one record a target",
    "finished": "finished targets, from which a later run continues",
}
FOOTER = "Numbers in the page have five significant digits; the files beside it have ten."


def crt_report(*, inputs: CRTInputs, result: CRTResult, record: Mapping[str, Any]) -> str:
    """The report of a run of the test, as HTML text that needs no other file.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    result
        Of `run_all_genes_union_crt`.
    record
        `command`, `options`, `versions` and `warnings` of the run; `files`, where given, are the names of the files beside the page.

    Returns
    -------
    str
        The page; write it as UTF-8.

    Examples
    --------
    >>> from crt import crt_report, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=6, guides_per_gene=2, seed=1))
    >>> record = {"command": "notebook", "options": {"B": 255}, "versions": {}, "warnings": []}
    >>> page = crt_report(inputs=inputs, result=run_all_genes_union_crt(inputs, B=255), record=record)
    >>> page.rstrip().endswith("</html>"), len(page) < 5_000_000
    (True, True)
    """
    page = Page(
        run="conditional randomization test",
        title=f"{len(result.treated_df):,} targets × {len(inputs.program_names):,} programs",
        summary=_test_summary(inputs, result),
        warnings=warnings_of(record),
        sections=[
            reading_section(inputs, result.treated_df),
            results_section(result),
            _test_calibration(result),
            settings_section(record, fingerprint=inputs_digest(inputs), files=CRT_FILES, also=own_settings(result.settings, record)),
        ],
        footer=FOOTER,
    )
    return render(page)


def control_words(inputs: CRTInputs) -> str:
    """What units are compared with, and whether that suits the screen."""
    if inputs.control_group == "ntc_cells":
        out = f"Treated cells are compared with the {inputs.ntc_cells.size:,} cells whose guides are all NTC."
        return out + (f" At this MOI ({inputs.moi:.2f}) the complement would have far more cells." if inputs.moi >= 2 * LOW_MOI else "")
    out = "Treated cells are compared with all cells that carry no guide of the target."
    return out + (" At this low MOI most of them carry some other perturbation: use --control-group ntc_cells." if inputs.moi < LOW_MOI else "")


def _test_summary(inputs: CRTInputs, result: CRTResult) -> list[Block]:
    table, units = result.table, result.treated_df
    tests, hits = int(table["p_adj"].notna().sum()), table[table["p_adj"] < FDR]
    kind = "skew-normal" if result.settings.get("calibrated") else "empirical"
    lines = [f"{tests:,} tests were made of {len(units):,} targets on {len(inputs.program_names):,} programs, by {kind} p-values."]
    if len(hits):
        best = strongest_first(hits).iloc[0]
        beta = signed(f"{best['beta']:.2f}")
        lines.append(
            f"The strongest is {best['target']} on {best['program']}: β = {beta}, p = {shown(10.0 ** max(best['log10_p'], -320.0), 'p')}. "
            "β is the difference of treated cells on the outcome’s own scale, given the covariates."
        )
    lines.append(control_words(inputs))
    for reason, names in units.loc[units["reason"] != ""].groupby("reason").groups.items():
        lines.append(f"Not tested ({reason}): {first_few(names, 8)}.")
    if not result.settings.get("calibrated"):
        floor = 1 / (float(units["n_resamples"].max()) + 1) if units["n_resamples"].max() else 1.0
        further = "--skew-normal reaches" if result.settings.get("stages") else "--skew-normal or --adaptive reach"
        lines.append(f"No p can be below {floor:.2g} with so many resamples; {further} further.")
    head = f"{len(hits):,} {'discovery' if len(hits) == 1 else 'discoveries'} at a 10 % false discovery rate"
    head += f", in {hits['target'].nunique():,} of {len(units):,} targets." if len(hits) else "."
    return [Notice(tone="good" if len(hits) else "plain", title=head, text=lines)]


def _test_calibration(result: CRTResult) -> Section:
    raw, skew = result.table["p_raw"].to_numpy(float), result.table["p_skew"].to_numpy(float)
    curves = {"empirical": raw} | ({"skew-normal": skew} if np.isfinite(skew).any() else {})
    most = result.treated_df["n_resamples"].max()
    shown_p = skew if np.isfinite(skew).any() and result.settings.get("calibrated") else raw
    figures = [
        qq_figure(
            curves,
            title="QQ of p",
            floor=1 / (float(most) + 1) if most else None,
            caption="All defined tests. The curve should lie in the band and leave it upwards at the right, where the effects are. One that leaves it "
            "early, or lies below it, speaks of a null that is wrong: run diagnose-null.",
        ),
        p_histogram(
            shown_p, title="Histogram of p", caption="Flat, with a peak at the left made by effects. A peak at the right or a slope throughout is a bad sign."
        ),
    ]
    units = result.treated_df
    failed, separated = int((~units["propensity_converged"].astype(bool)).sum()), int(units["propensity_separated"].astype(bool).sum())
    words = [
        f"{failed:,} propensity fits did not converge, {separated:,} were separated, and {int(units['n_skew_fallback'].sum()):,} skew-normal p-values fell "
        "back to the empirical one."
    ]
    return Section(id="calibration", title="Calibration", blocks=[Figures(items=figures), Prose(text=words)])
