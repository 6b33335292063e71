"""A fit as one HTML page: what was read, the fit, the effects, their calibration, the settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr

from data_prep.errors import first_few
from data_prep.screen import Screen
from fatescreen.figures.charts import agreement, normal_qq, p_histogram, trace
from fatescreen.report import Block, Facts, Figure, Figures, Heading, More, Notice, Page, PlainTable, Prose, Section, Table, render
from fatescreen.report.blocks import Column
from fatescreen.report.numbers import signed
from fatescreen.report.record import own_settings, settings_section, warnings_of
from fatescreen.report.sections.effects import Contrast, results_section
from fatescreen.report.sections.fit_reading import reading_section
from hierarchy.effects import DaywiseEffects
from hierarchy.fitting import Fit
from hierarchy.inference.mean_field import WINDOW
from hierarchy.predictive_checks import BAD_FIT, Checks

Z95 = 1.96
FAR = 3.0  # SDs of a predictive check beyond which it is counted
FILES = {
    "gene_daywise_for_mash.csv": "effect θ and its SE for each gene and day, as mashr reads it",
    "guide_daywise_for_mash.csv": "the same for each guide, β = θ + δ",
    "theta_posterior_summary.npz": "θ of all free fates, with names",
    "delta_posterior_summary.npz": "the guides’ deviations δ of all free fates",
    "qc_delta_mean_by_gene.csv": "that δ averages to zero within each gene",
    "qc_theta_beta_offset_by_gene.csv": "that β is not offset from θ",
    "check_composition.csv": "predicted and observed fates by day and replicate",
    "check_top_genes.csv": "the same over the cells of the strongest genes",
    "check_family_by_gene.csv": "how well the Gaussian family fits each gene",
    "scales.csv": "τ, σ_time and σ_guide with 90 % intervals",
    "fit.png": "the figures of the fit",
    "run.json": "settings, versions, seed, fingerprint, convergence",
}


def fit_report(*, screen: Screen, fit: Fit, effects: DaywiseEffects, checks: Checks, contrast_fate: str, record: Mapping[str, Any]) -> str:
    """The report of a fit, as HTML text that needs no other file.

    Parameters
    ----------
    screen
        What was read.
    fit
        Of `hierarchy.fit`.
    effects
        Of `summarise`.
    checks
        Of `check_fit`.
    contrast_fate
        The free fate whose effects are shown.
    record
        `command`, `options`, `versions` and `warnings` of the run; `files`, where given, are the names of the files beside the page.

    Returns
    -------
    str
        The page; write it as UTF-8.

    Raises
    ------
    InputError
        When `contrast_fate` is not a free fate.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> from hierarchy import check_fit, fit, fit_report, summarise
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=2000, n_genes=8, n_days=2), seed=0).adata)
    >>> fitted = fit(build_fate_data(screen, ref_fate="EC"))
    >>> record = {"command": "notebook", "options": {}, "versions": {}, "warnings": []}
    >>> page = fit_report(screen=screen, fit=fitted, effects=summarise(fitted), checks=check_fit(fitted), contrast_fate="MES", record=record)
    >>> page.rstrip().endswith("</html>"), len(page) < 5_000_000
    (True, True)
    """
    contrast = Contrast.of(effects, contrast_fate, fit.model.data.fates[0])
    also = own_settings(dataclasses.asdict(fit.settings), record) | {"priors": dataclasses.asdict(fit.model.priors)}
    page = Page(
        run="fate effects, day by day",
        title=f"Gene effects on {contrast.fate} against {contrast.reference}",
        summary=_summary(fit, contrast, checks),
        warnings=warnings_of(record),
        sections=[
            reading_section(screen, effects),
            _fit_section(fit, checks),
            results_section(contrast, effects),
            _calibration(contrast, checks),
            settings_section(
                record,
                fingerprint=fit.model.data.fingerprint,
                files=FILES,
                also=also,
            ),
        ],
        footer="Numbers in the page have five significant digits; the files beside it have ten.",
    )
    return render(page)


def _summary(fit: Fit, contrast: Contrast, checks: Checks) -> list[Block]:
    z = np.abs(contrast.z)
    clear = z > Z95
    n_genes, wrong = int(clear.any(1).sum()), float(ndtr(-z[clear]).sum())
    best = int(z.max(1).argmax())
    day = int(z[best].argmax())
    signs = (
        f" ({int(clear.sum()):,} gene-days); by the fit’s own errors about {wrong:.1f} of those gene-days have the wrong sign (the sum of their local false "
        "sign rates)."
    )
    lines = [
        f"{n_genes:,} of {len(z):,} genes have an effect with |z| > {Z95} on at least one day" + (signs if n_genes else "."),
        f"The strongest is {contrast.genes[best]} on day {contrast.days[day]}: {signed(f'{contrast.mean[best, day]:.2f}')} ± {contrast.sd[best, day]:.2f} "
        f"log-odds of {contrast.fate} against {contrast.reference} for a cell that carries a guide of it.",
        weight_words(fit.weight, fixed=fit.settings.likelihood_weight != "auto"),
        _checks_words(checks),
    ]
    if fit.converged:
        head = Notice(tone="good", title=f"The fit converged in {fit.steps} steps.", text=lines)
    else:
        mend = "Raise --max-steps and run again; until it converges, take no effect or error below for more than a first impression."
        head = Notice(tone="bad", title=f"The fit did NOT converge in {fit.steps} steps.", text=[mend, *lines])
    return [head]


def weight_words(weight: float, *, fixed: bool) -> str:
    """What the likelihood weight means."""
    how = "was set by hand to" if fixed else "was estimated as"
    if weight >= 1:
        means = f"a cell’s fate probabilities tell as much as about {weight:.3g} cells with one certain fate each would"
    else:
        means = f"a cell’s fate probabilities tell only {weight:.3g} times as much as one cell with a certain fate would"
    return f"The likelihood weight w {how} {weight:.3g}: {means} (dispersion φ = 1/w = {1 / weight:.3g}). Errors scale with 1/√w."


def _checks_words(checks: Checks) -> str:
    far = {name: (int((table["z"].abs() > FAR).sum()), len(table)) for name, table in (("day and replicate", checks.composition), ("top gene", checks.genes))}
    out = "None of the mean fates is more than three SDs from what the fit predicts."
    if n_far := sum(n for n, _ in far.values()):
        said = ", ".join(f"{n:,} of {total:,} by {name}" for name, (n, total) in far.items())
        out = f"{n_far:,} mean {'fate is' if n_far == 1 else 'fates are'} more than three SDs from what the fit predicts ({said})."
    bad = checks.badly_fitted
    if bad:
        out += f" Mistrust {len(bad)} {'gene' if len(bad) == 1 else 'genes'} with too few cells or fates for a Gaussian posterior: {first_few(bad, 8)}."
    return out


def _fit_section(fit: Fit, checks: Checks) -> Section:
    blocks: list[Block] = [
        Facts(
            items=[
                ("Converged", "yes" if fit.converged else "NO", f"{fit.steps} steps of at most {fit.settings.step_limit:,}"),
                ("Last bound", signed(f"{fit.elbo[-1]:,.1f}", plus=False) if fit.elbo else "none yet", "ELBO, nats"),
                ("Likelihood weight w", f"{fit.weight:.4g}", "by hand" if fit.settings.likelihood_weight != "auto" else "from the Pearson dispersion"),
                ("Posterior", fit.settings.posterior, f"errors: {fit.settings.se}"),
            ]
        ),
        Figures(items=_traces(fit)),
        Heading(text="Scales"),
        Prose(
            text=[
                "τ is the spread of gene effects on the first day, σ_time that of their step to the day named, σ_guide that of the guides of one gene, "
                "all in log-odds."
            ]
        ),
        PlainTable(
            caption="Scales with 90 % intervals",
            head=("scale", "fate", "mean", "90 % interval"),
            rows=[(str(r.scale), str(r.fate), f"{r.mean:.3g}", f"{r.low:.3g} to {r.high:.3g}") for r in checks.scales.itertuples()],
        ),
        Heading(text="Predictive checks"),
        Figures(items=_agreements(checks)),
        More(
            title="The checks as tables",
            blocks=[
                _check_table("check-composition", "Mean fate probability by day and replicate.", checks, "composition", ("day", "rep", "fate")),
                _check_table("check-genes", "Mean fate probability of the cells of the strongest genes.", checks, "genes", ("gene", "day", "fate")),
            ],
        ),
        Heading(text="Does the Gaussian family fit each gene?"),
        *_family(checks),
    ]
    return Section(id="fit", title="The fit", blocks=blocks)


def _traces(fit: Fit) -> list[Figure]:
    """The bound over w, which moves too in natural steps, and the movement of the means."""
    natural = fit.settings.posterior == "gene_block"
    elbo: np.ndarray = np.array(fit.elbo) / (np.array(fit.weights) if natural else fit.weight)
    out = []
    if elbo.size:
        every = 1 if natural else WINDOW
        out.append(trace(elbo, title="Bound", y_label="ELBO / w, nats", caption="It should rise and lie flat at the end.", every=every))
    if fit.moved:
        caption = "It should fall steadily." + ("" if natural else " These are the natural steps that the other family starts from.")
        out.append(trace(fit.moved, title="Movement of the means", y_label="RMS step, posterior SDs", caption=caption, log=True))
    return out


def _agreements(checks: Checks) -> list[Figure]:
    out = []
    for table, title in ((checks.composition, "Fates by day and replicate"), (checks.genes, "Fates of cells with a top gene, by day")):
        groups = {str(fate): tuple(own[c].to_numpy() for c in ("predicted", "observed", "sd")) for fate, own in table.groupby("fate", sort=False)}
        if groups:
            out.append(agreement(groups, title=title, caption="Points should lie on the line to within their bars (95 % of noise)."))  # type: ignore[arg-type]
    return out


def _check_table(id: str, caption: str, checks: Checks, which: str, names: tuple[str, ...]) -> Table:
    frame = getattr(checks, which)
    texts = [Column(key=n, label={"rep": "replicate"}.get(n, n)) for n in names]
    numbers = [Column(key="cells", label="cells", kind="count")] + [Column(key=k, label=k, kind="share") for k in ("observed", "predicted")]
    z = Column(key="z", label="z", kind="z", help="observed less predicted, over the SD of the noise in the mean of so many cells")
    return Table(id=id, caption=caption, columns=[*texts, *numbers, z], frame=frame, total=len(frame), page=12)


def _family(checks: Checks) -> list[Block]:
    if checks.family is None:
        return [Prose(text=["This is asked of the gene_block family only."])]
    frame = checks.family.sort_values("effective_fraction", kind="stable", na_position="last")
    bad = checks.badly_fitted
    asked = int(frame["effective_fraction"].notna().sum())
    said = f"{asked:,} of {len(frame):,} genes were asked."
    if bad:
        title = f"{len(bad)} {'gene has' if len(bad) == 1 else 'genes have'} an effective fraction below {BAD_FIT}"
        note = Notice(tone="bad", title=title, text=[f"Too few cells or fates for a Gaussian posterior; mistrust their errors: {first_few(bad, 40)}.", said])
    else:
        note = Notice(tone="good", title=f"All genes asked have an effective fraction of {BAD_FIT} or more.", text=[said])
    column = Column(
        key="effective_fraction", label="effective fraction", kind="share", help="of importance draws; 1 where the Gaussian is the gene’s likelihood"
    )
    caption = "Effective fraction of each gene, the worst first."
    columns = [Column(key="gene", label="gene"), column]
    table = Table(id="family", caption=caption, columns=columns, frame=frame, total=len(frame), full="check_family_by_gene.csv", page=10)
    return [note, More(title="Effective fraction of each gene", blocks=[table])]


def _calibration(contrast: Contrast, checks: Checks) -> Section:
    residuals = {"day × replicate": checks.composition["z"].to_numpy(float), "top genes × day": checks.genes["z"].to_numpy(float)}
    blocks: list[Block] = [
        Figures(
            items=[
                normal_qq(
                    residuals,
                    title="Residuals of the predictive checks",
                    caption="Days and replicates have parameters of their own, so their points are flatter than the line. A tail that leaves "
                    "the line on its far side, or a curve steeper than the line, means that fates vary in a way the model lacks.",
                ),
                p_histogram(
                    2 * ndtr(-np.abs(contrast.z)),
                    title="Two-sided p of θ, all genes and days",
                    caption="Flat, with a peak at the left made by genes with effects. Shrinkage of genes without effects towards zero raises the right end; a "
                    "peak at the left that takes in most genes speaks of a shift that all genes share.",
                ),
            ]
        )
    ]
    return Section(id="calibration", title="Calibration", blocks=blocks)
