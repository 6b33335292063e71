"""Where the parts of a screen are: its keys, and the labels of non-targeting guides."""

from dataclasses import dataclass

NTC_LABELS = ("non-targeting", "safe-targeting", "NTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenKeys:
    """Where the parts of a screen are in its file or object.

    Attributes
    ----------
    fate
        Fate probabilities, in `obsm`.
    guide
        Guides of each cell, in `obsm`, `layers` or a MuData modality.
    day
        Day of each cell, in `obs`.
    rep
        Replicate of each cell, in `obsm[covar]` or `obs`.
    covar
        Covariate table, in `obsm`.
    guide_names
        Names of the guides, in `uns`, where the guides are a bare matrix.
    cluster
        Columns of `obs` or `obsm[covar]`, joined by "+", whose cells share noise; None for no clusters.

    Examples
    --------
    >>> from data_prep import ScreenKeys
    >>> ScreenKeys(fate="fateprob", guide="guide_assignment").fate
    'fateprob'
    """

    fate: str = "lineages_fwd"
    guide: str = "guide"
    day: str = "day"
    rep: str = "rep"
    covar: str = "covar"
    guide_names: str = "guide_names"
    cluster: str | None = None
