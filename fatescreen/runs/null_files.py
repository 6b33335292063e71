"""Files of null diagnostics: tables, summary, QQ plots."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crt.null.diagnostics import NullDiagnostics
from crt.null.rates import LEVELS
from data_prep.files import atomic, write_text
from fatescreen.figures import null_qq_plot, propensity_qq_plot
from fatescreen.figures.null import defined
from fatescreen.figures.style import own_style


def write_diagnostics(out: Path, found: NullDiagnostics, *, null: Any | None = None) -> None:
    """Write the tables, the summary (JSON and text) and the QQ plots of null diagnostics; a file is complete or absent.

    The same diagnostics give the same bytes. Without a defined p-value for any gene or any NTC group there are no QQ plots, and those of an earlier run are
    removed.

    Parameters
    ----------
    out
        Output folder; created if missing.
    found
        Result of `diagnose_null`.
    null
        p-values of resamples against one another, of `compute_ntc_group_null_pvals_parallel`, for one more curve of the QQ plot.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import UnitSettings, diagnose_null, write_diagnostics
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_diagnostics(Path(folder), found)
    ...     print(sorted(path.name for path in Path(folder).glob("*.*"))[:4])
    ['diagnostics_summary.json', 'diagnostics_summary.txt', 'diagnostics_units.csv', 'pvals_ntc_oracle_raw.csv']
    """
    tables = {
        "diagnostics_units": found.units,
        "pvals_real": found.real_raw,
        "pvals_real_skew": found.real_skew,
        "pvals_ntc_raw": found.ntc_raw,
        "pvals_ntc_skew": found.ntc_skew,
        "pvals_ntc_oracle_raw": found.oracle_raw,
        "skew_normal_checks": found.checks,
    }
    for name, frame in tables.items():
        with atomic(out / f"{name}.csv") as path:
            frame.to_csv(path, index=name.startswith("pvals"), float_format="%.10g")
    write_text(out / "diagnostics_summary.json", json.dumps(found.summary, indent=1) + "\n")
    write_text(out / "diagnostics_summary.txt", "\n".join(text_lines(found)) + "\n")
    for name in ("qq_null.png", "qq_ntc_fit_vs_oracle.png"):
        (out / name).unlink(missing_ok=True)
    if defined(found.real_raw) and defined(found.ntc_raw):
        with own_style():
            _save(null_qq_plot(found, null, title="Genes and NTC groups"), out / "qq_null.png")
            _save(propensity_qq_plot(found, title="NTC groups"), out / "qq_ntc_fit_vs_oracle.png")


def text_lines(found: NullDiagnostics) -> list[str]:
    """Lines of the text summary; the verdict comes last."""
    settings = found.summary["settings"]
    how = f"{settings['n_resamples']} resamples" if settings["method"] == "resample" else "saddlepoint"
    out = [f"seed {found.summary['seed_base']}, {how}, statistic {settings['statistic']}, groups of {found.summary['group_size']} NTC guides", ""]
    for kind, facts in found.summary["units"].items():
        out.append(f"{kind}: {facts['count']} units")
        for name, quantiles in facts["quantiles"].items():
            out.append(f"  {name:<11} " + "  ".join(f"{q}: {_number(v)}" for q, v in quantiles.items()))
        out += [f"  {name}: {_number(facts[name])}" for name in facts if name not in ("count", "quantiles")]
    out += ["", "curve            tests   KS distance" + "".join(f"   p <= {level:<24g}" for level in LEVELS)]
    for name, curve in found.summary["curves"].items():
        if curve["tests"]:
            rates = "".join("   {rate:.4f} [{low:.4f}, {high:.4f}]      ".format(**curve[f"p<={level:g}"]) for level in LEVELS)
            out.append(f"{name:<14} {curve['tests']:>7,}   {curve['ks_distance']:.4f}     {rates}".rstrip())
    out += ["  (95 % confidence intervals that count independent tests: NTC groups of different partitions share guides, and programs are correlated)", ""]
    if len(found.checks):
        with pd.option_context("display.width", 160):
            out += ["skew-normal checks of randomly chosen tests:", *found.checks.to_string(index=False, float_format="%.4g").split("\n"), ""]
    return [line.rstrip() for line in out] + found.verdict.lines()


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _save(axes: Axes, path: Path) -> None:
    assert isinstance(axes.figure, Figure)
    with atomic(path) as temporary:
        axes.figure.savefig(temporary, dpi=150, metadata={"Software": None})
