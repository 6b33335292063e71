"""Normal QQ plots of standardised residuals."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import norm

from fatescreen.figures.style import diagonal, legend, new_axes, series_points, short, thin, tidy

N_POINTS = 300  # of each group


def normal_qq_plot(groups: Mapping[str, np.ndarray], *, ax: Axes | None = None, title: str | None = None, y_label: str = "residual z") -> Axes:
    """Ordered standardised residuals against the quantiles of a standard normal distribution.

    Parameters
    ----------
    groups
        Label → residuals z of any shape; undefined ones (NaN) are left out, and so is a group without any defined residual.
    ax
        Axes to draw on; by default those of a new figure.
    title
        Title of the axes.
    y_label
        Label of the vertical axis.

    Returns
    -------
    matplotlib.axes.Axes
        The axes that were drawn on; their label (`get_label`) describes the figure in words.

    Examples
    --------
    >>> import numpy as np
    >>> from fatescreen.figures import normal_qq_plot
    >>> axes = normal_qq_plot({"top genes": np.random.default_rng(1).normal(size=500)})
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('normal quantile', 'residual z')
    """
    axes = new_axes() if ax is None else ax
    ordered = {name: np.sort(z[np.isfinite(z)]) for name, z in ((name, np.asarray(z, dtype=np.float64).ravel()) for name, z in groups.items())}
    ordered = {name: z for name, z in ordered.items() if z.size}
    quantiles = {name: norm.ppf((np.arange(z.size) + 0.5) / z.size) for name, z in ordered.items()}
    diagonal(axes, *ordered.values(), *quantiles.values())
    for i, (name, z) in enumerate(ordered.items()):
        keep = thin(z.size, N_POINTS)
        series_points(axes, quantiles[name][keep], z[keep], i, f"{short(name)} ({z.size:,})")
    tidy(axes, x_label="normal quantile", y_label=y_label, title=title)
    legend(axes)
    axes.set_label("normal QQ plot of residuals; " + "; ".join(f"{name}: {z.size:,} residuals, SD {float(np.std(z)):.3g}" for name, z in ordered.items()))
    return axes
