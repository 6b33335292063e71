"""The report on a fit."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.screen import Screen
from fatescreen.report.blocks import Page
from fatescreen.report.glossary import FIT, glossary_section
from fatescreen.report.inline_svg import page_style
from fatescreen.report.record import FOOTER, own_settings, settings_section, warnings_of
from fatescreen.report.render import render
from fatescreen.report.sections.effects import Contrast, results_section
from fatescreen.report.sections.fit_calibration import calibration_section
from fatescreen.report.sections.fit_input import input_section
from fatescreen.report.sections.fit_quality import fit_section
from fatescreen.report.sections.fit_summary import summary_blocks
from hierarchy.effects import DaywiseEffects
from hierarchy.predictive_checks import Checks
from hierarchy.result import Fit
from hierarchy.self_check import Controls

FILES = {
    "gene_daywise_for_mash.csv": "likelihood-type estimate of θ and its SE for each gene and day, the input of mash",
    "guide_daywise_for_mash.csv": "the same for each guide, β = θ + δ",
    "theta_covariance.npz": "covariance of the errors of each gene's estimates over days and fates",
    "gene_daywise_posterior.csv": "posterior mean and SD of θ, lfsr and number of cells for each gene and day",
    "guide_daywise_posterior.csv": "the same for each guide",
    "day_contrasts.csv": "tests between days: the difference of any two, and an effect on any day",
    "effects.csv": "estimates and posterior moments of all contrasts in one long table",
    "guide_estimates.npz": "estimates by guide, and of genes without each guide, with their covariances over days: the input of call-hits",
    "theta_posterior_summary.npz": "θ of all non-reference fates, with names",
    "delta_posterior_summary.npz": "deviations δ of the guides, all non-reference fates",
    "qc_delta_mean_by_gene.csv": "mean of δ over the guides of each gene, which should be zero",
    "qc_theta_beta_offset_by_gene.csv": "difference between θ and the mean β of each gene, which should be zero",
    "check_composition.csv": "predicted and observed fates by day and replicate",
    "check_top_genes.csv": "predicted and observed fates in cells of the strongest genes",
    "check_family_by_gene.csv": "how well the Gaussian posterior fits each gene",
    "scales.csv": "τ, σ_time and σ_guide with 90 % intervals",
    "fit.png": "figures of the fit",
    "run.json": "settings, versions, seed, fingerprint, convergence",
}


@page_style()
def fit_report(
    *, screen: Screen, fit: Fit, effects: DaywiseEffects, checks: Checks, controls: Controls, contrast_fate: str | Sequence[str], record: Mapping[str, Any]
) -> str:
    """The report on a fit, as HTML text that needs no other file.

    Parameters
    ----------
    screen
        Result of `read_screen`.
    fit
        Result of `hierarchy.fit`.
    effects
        Result of `summarise`.
    checks
        Result of `check_fit`.
    controls
        Results of `check_ntc` and `check_permuted`, where there are any.
    contrast_fate
        Contrast of fates, "A" (against the reference) or "A:B", or several of them; the first has the summary and the forest plots.
    record
        Record of the run with `command`, `options`, `versions` and `warnings`; `files`, if given, are the names of the files in the folder of the page.

    Returns
    -------
    str
        The page; save it as UTF-8.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> from hierarchy import Controls, check_fit, check_ntc, fit, fit_report, summarise
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata)
    >>> fitted = fit(build_fate_data(screen, ref_fate="EC"))
    >>> record = {"command": "notebook", "options": {}, "versions": {}, "warnings": []}
    >>> checks = {"checks": check_fit(fitted), "controls": Controls(ntc=check_ntc(fitted, screen))}
    >>> page = fit_report(screen=screen, fit=fitted, effects=summarise(fitted), contrast_fate="MES", record=record, **checks)
    >>> assert page.rstrip().endswith("</html>")
    """
    contrast, *others = (Contrast.of(effects, name) for name in ([contrast_fate] if isinstance(contrast_fate, str) else contrast_fate))
    also = own_settings(dataclasses.asdict(fit.settings), record) | {"priors": dataclasses.asdict(fit.model.priors)}
    page = Page(
        run="fate effects by day",
        title=f"Gene effects on {contrast.fate} against {contrast.reference}",
        summary=summary_blocks(fit, contrast, checks),
        warnings=warnings_of(record),
        sections=[
            input_section(screen, effects),
            fit_section(fit, checks),
            results_section([contrast, *others], effects),
            calibration_section(contrast, checks, controls),
            settings_section(record, fingerprint=fit.model.data.fingerprint, files=FILES, also=also),
            glossary_section(*FIT),
        ],
        footer=FOOTER,
    )
    return render(page)
