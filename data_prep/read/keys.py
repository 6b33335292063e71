"""Keys of the parts of a screen, and labels of non-targeting guides."""

from dataclasses import dataclass

NTC_LABELS = ("non-targeting", "safe-targeting", "NTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenKeys:
    """Keys of the parts of a screen in its file or object.

    Attributes
    ----------
    fate
        Key of the fate probabilities in `obsm`.
    guide
        Key of the guides of each cell in `obsm` or `layers`, or name of their MuData modality.
    day
        Column of `obs` with the day of each cell.
    rep
        Column of `obsm[covar]` or `obs` with the replicate of each cell.
    covar
        Key of the covariate table in `obsm`.
    guide_names
        Key of the names of the guides in `uns`, for guides that are an array.
    cluster
        Columns of `obs` or `obsm[covar]`, joined by "+", that define the clusters for robust standard errors; None for no clusters.

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
