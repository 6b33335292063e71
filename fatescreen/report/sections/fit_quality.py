"""Section on the fit itself in the report on a fit: convergence, predictive checks, adequacy of the Gaussian posterior."""

from data_prep.errors import first_few
from fatescreen.figures import agreement_plot, bound_plot, movement_plot
from fatescreen.report.blocks import Block, Column, Facts, Figure, Figures, Heading, More, Notice, PlainTable, Prose, Section, Table
from fatescreen.report.inline_svg import panel
from fatescreen.report.numbers import signed
from hierarchy.predictive_checks import BAD_FIT, Checks
from hierarchy.result import Fit


def fit_section(fit: Fit, checks: Checks) -> Section:
    """Convergence, scale parameters, predictive checks and the check of the Gaussian posterior."""
    blocks: list[Block] = [
        _facts(fit),
        Figures(items=_traces(fit)),
        *_weights(fit),
        Heading(text="Scale parameters"),
        Prose(
            text=[
                "Standard deviations in log-odds: τ of gene effects on the first day, σ_time of their change to the named day, σ_guide of guide effects within "
                "a gene."
            ]
        ),
        PlainTable(
            caption="Posterior means and 90 % intervals",
            head=("scale", "fate", "mean", "90 % interval"),
            rows=[(str(r.scale), str(r.fate), f"{r.mean:.3g}", f"{r.low:.3g} to {r.high:.3g}") for r in checks.scales.itertuples()],
        ),
        Heading(text="Predictive checks"),
        Figures(items=_agreements(checks)),
        More(
            title="Predictive checks as tables",
            blocks=[
                _check_table("check-composition", "Mean fate probability by day and replicate.", checks, "composition", ("day", "rep", "fate")),
                _check_table("check-genes", "Mean fate probability in cells of the strongest genes.", checks, "genes", ("gene", "day", "fate")),
            ],
        ),
        Heading(text="Adequacy of the Gaussian posterior"),
        *_family(checks),
    ]
    return Section(id="fit", title="Model fit", blocks=blocks)


def _facts(fit: Fit) -> Facts:
    how = {"auto": "from the Pearson dispersion, by day and replicate", "common": "from the Pearson dispersion"}
    return Facts(
        items=[
            ("Converged", "yes" if fit.converged else "NO", f"{fit.steps} steps, maximum {fit.settings.step_limit:,}"),
            ("Last ELBO", signed(f"{fit.elbo[-1]:,.1f}", plus=False) if fit.elbo else "none", "evidence lower bound, nats"),
            ("Likelihood weight w", f"{fit.weight:.4g}", how.get(str(fit.settings.likelihood_weight), "set by the user")),
            ("Posterior", fit.settings.posterior, f"standard errors: {fit.settings.se}"),
        ]
    )


def _weights(fit: Fit) -> list[Block]:
    """The likelihood weights, where they may differ."""
    if fit.settings.likelihood_weight != "auto":
        return []
    data, cells = fit.model.data, fit.model.design.group_cells.tolist()
    rows = [
        (day, *(f"{w:.3g} ({n:,.0f} cells)" if n else "no cells" for w, n in zip(weights, counts, strict=True)))
        for day, weights, counts in zip(data.days, fit.weight_table.tolist(), cells, strict=True)
    ]
    text = (
        "1/φ of the cells of each day and replicate, with the Pearson dispersion φ. The weights are shrunk to their common value by the variation between them "
        "that exceeds their sampling error. A day or replicate with a small weight has noisier fate probabilities, and its effects larger standard errors."
    )
    return [Heading(text="Likelihood weights"), Prose(text=[text]), PlainTable(caption="Weight by day and replicate", head=("day", *data.reps), rows=rows)]


def _traces(fit: Fit) -> list[Figure]:
    out = []
    if fit.elbo:
        out.append(Figure(axes=bound_plot(fit, ax=panel()), title="Evidence lower bound", caption="Should rise and be flat at the end."))
    if fit.moved:
        first = "" if fit.settings.posterior == "gene_block" else " These are the natural-gradient steps from which the mean-field fit starts."
        out.append(Figure(axes=movement_plot(fit, ax=panel()), title="Movement of the means", caption=f"Should decrease steadily.{first}"))
    return out


def _agreements(checks: Checks) -> list[Figure]:
    titles = (("Fates by day and replicate", checks.composition), ("Fates of cells with a top gene, by day", checks.genes))
    caption = "Points should lie on the diagonal within their bars (95 % intervals of the noise)."
    return [Figure(axes=agreement_plot(table, ax=panel(300)), title=title, caption=caption) for title, table in titles if len(table)]


def _check_table(id: str, caption: str, checks: Checks, which: str, names: tuple[str, ...]) -> Table:
    frame = getattr(checks, which)
    texts = [Column(key=n, label={"rep": "replicate"}.get(n, n)) for n in names]
    numbers = [Column(key="cells", label="cells", kind="count")] + [Column(key=k, label=k, kind="share") for k in ("observed", "predicted")]
    z = Column(key="z", label="z", kind="z", help="observed minus predicted, divided by the SD of the mean over this number of cells")
    return Table(id=id, caption=caption, columns=[*texts, *numbers, z], frame=frame, total=len(frame), page=12)


def _family(checks: Checks) -> list[Block]:
    if checks.family is None:
        return [Prose(text=["This check is available for the gene_block posterior only."])]
    frame = checks.family.sort_values("effective_fraction", kind="stable", na_position="last")
    bad = checks.badly_fitted
    checked = f"{int(frame['effective_fraction'].notna().sum()):,} of {len(frame):,} genes were checked."
    if bad:
        title = f"{len(bad)} {'gene has' if len(bad) == 1 else 'genes have'} an effective sample size ratio below {BAD_FIT}"
        advice = f"These genes have too few cells or fates for a Gaussian posterior. Interpret their standard errors with caution: {first_few(bad, 40)}."
        note = Notice(tone="bad", title=title, text=[advice, checked])
    else:
        note = Notice(tone="good", title=f"All checked genes have an effective sample size ratio of {BAD_FIT} or more.", text=[checked])
    meaning = "effective sample size of importance draws divided by their number; 1 if the likelihood of the gene is Gaussian"
    columns = [Column(key="gene", label="gene"), Column(key="effective_fraction", label="effective sample size ratio", kind="share", help=meaning)]
    caption = "Effective sample size ratio of each gene, smallest first."
    table = Table(id="family", caption=caption, columns=columns, frame=frame, total=len(frame), full="check_family_by_gene.csv", page=10)
    return [note, More(title="Effective sample size ratio of each gene", blocks=[table])]
