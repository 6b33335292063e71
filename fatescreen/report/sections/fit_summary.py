"""Summary of the report on a fit."""

from data_prep.errors import first_few
from fatescreen.report.blocks import Block, Notice
from fatescreen.report.numbers import signed
from fatescreen.report.sections.effects import Z95, Contrast
from hierarchy.predictive_checks import Checks
from hierarchy.result import Fit

FAR = 3.0  # SDs of a predictive check beyond which it is counted


def summary_blocks(fit: Fit, contrast: Contrast, checks: Checks) -> list[Block]:
    """Whether the fit converged, how many genes have effects, and what limits the results."""
    z = contrast.size
    clear = z > Z95
    best = int(z.max(1).argmax())
    day = int(z[best].argmax())
    count = f"{int(clear.any(1).sum()):,} of {len(z):,} genes have |z| > {Z95} on at least one day"
    if clear.any():
        count += f" ({int(clear.sum()):,} gene-days; up to {0.05 * z.size:.0f} would exceed this limit by chance if no gene had an effect)"
    lines = [
        f"{count}. For a list of genes with days, patterns and a rate of false calls, run call-hits on the folder of this fit.",
        f"The strongest is {contrast.genes[best]} on day {contrast.days[day]}: {signed(f'{contrast.mean[best, day]:.2f}')} ± {contrast.sd[best, day]:.2f} "
        f"in the log-odds of {contrast.fate} against {contrast.reference} for cells that carry a guide of the gene.",
        weight_text(fit.weight, fixed=isinstance(fit.settings.likelihood_weight, float)),
        _checks_text(checks),
    ]
    if fit.converged:
        return [Notice(tone="good", title=f"The fit converged in {fit.steps} steps.", text=lines)]
    advice = "Increase --max-steps and run again. Until the fit converges, its effects and standard errors are preliminary."
    return [Notice(tone="bad", title=f"The fit did NOT converge in {fit.steps} steps.", text=[advice, *lines])]


def weight_text(weight: float, *, fixed: bool) -> str:
    """The meaning of the likelihood weight."""
    how = "was set to" if fixed else "was estimated as"
    if weight >= 1:
        meaning = f"the fate probabilities of a cell are as informative as about {weight:.3g} cells with one observed fate each"
    else:
        meaning = f"the fate probabilities of a cell are only {weight:.3g} times as informative as one cell with an observed fate"
    return f"The likelihood weight w {how} {weight:.3g}: {meaning} (dispersion φ = 1/w = {1 / weight:.3g}). Standard errors are proportional to 1/√w."


def _checks_text(checks: Checks) -> str:
    far = {name: (int((table["z"].abs() > FAR).sum()), len(table)) for name, table in (("day and replicate", checks.composition), ("top gene", checks.genes))}
    out = "None of the mean fates is more than three SDs from its prediction."
    if n_far := sum(n for n, _ in far.values()):
        where = ", ".join(f"{n:,} of {total:,} by {name}" for name, (n, total) in far.items())
        out = f"{n_far:,} mean {'fate is' if n_far == 1 else 'fates are'} more than three SDs from the prediction ({where})."
    if bad := checks.badly_fitted:
        genes = f"{len(bad)} {'gene' if len(bad) == 1 else 'genes'}"
        out += f" Interpret {genes} with caution, which have too few cells or fates for a Gaussian posterior: {first_few(bad, 8)}."
    return out
