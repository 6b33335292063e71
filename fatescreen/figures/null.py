"""QQ plots of null diagnostics."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from crt.null.diagnostics import NullDiagnostics
from fatescreen.figures.qq import qq_plot, qq_plot_ntc_pvals


def null_qq_plot(found: NullDiagnostics, null: Any | None = None, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """QQ plot of genes and NTC groups, with the band of one partition and the interquartile range over partitions.

    Parameters
    ----------
    found
        Result of `diagnose_null`.
    null
        p-values of resamples against one another, of `compute_ntc_group_null_pvals_parallel`, for one more curve.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Raises
    ------
    InputError
        When no gene or no NTC group has a defined p-value.

    Examples
    --------
    >>> from crt import UnitSettings, diagnose_null, make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> found = diagnose_null(inputs, UnitSettings(n_resamples=255), group_size=2, n_ensemble=2)
    >>> from fatescreen.figures import null_qq_plot
    >>> null_qq_plot(found).get_ylabel()
    'observed −log10 p'
    """
    members = [rows.to_numpy() for _, rows in found.ntc_raw.groupby(level="ensemble")]
    skew = found.ntc_skew if defined(found.ntc_skew) else None
    return qq_plot_ntc_pvals(found.real_raw, found.ntc_raw, skew, null, ensemble=members, ax=ax, title=title, floor=_floor(found))


def propensity_qq_plot(found: NullDiagnostics, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """QQ plot of NTC groups with the fitted propensity and with the same propensity for all cells.

    Parameters
    ----------
    found
        Result of `diagnose_null`.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Raises
    ------
    InputError
        When no NTC group has a defined p-value.
    """
    curves = {"fitted propensity": found.ntc_raw, "constant propensity": found.oracle_raw}
    first = next(rows for _, rows in found.ntc_raw.groupby(level="ensemble"))
    n = int(np.isfinite(first.to_numpy()).sum()) or None
    return qq_plot({name: p for name, p in curves.items() if defined(p)}, band_n=n, ax=ax, title=title, floor=_floor(found))


def defined(p: Any) -> bool:
    """Whether there is any defined p-value."""
    return bool(np.isfinite(np.asarray(p, dtype=np.float64)).any())


def _floor(found: NullDiagnostics) -> float | None:
    """The smallest possible p; None without resamples."""
    settings = found.summary["settings"]
    return 1 / (settings["n_resamples"] + 1) if settings["method"] == "resample" else None
