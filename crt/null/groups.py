"""NTC groups: pseudo-genes of NTC guides matched to real genes in size and frequency."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from crt.inputs import CRTInputs
from crt.sampling.streams import unit_seed
from crt.settings import GROUP_SIZE
from data_prep.errors import InputError, whole_number

log = logging.getLogger(__name__)
Groups = Mapping[str, Int[np.ndarray, " _"]]  # columns of the guides of each group, by its name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NTCGroupInputs:
    """Frequencies of guides, from which NTC groups are made. Made by `build_ntc_group_inputs`.

    Attributes
    ----------
    guides
        Columns of the NTC guides.
    frequency
        Share of cells that carry each guide, (guides,).
    bins
        Frequency bin of each guide, (guides,); the edges are quantiles of the frequencies of targeting guides.
    signatures
        Frequency bins of the guides of each gene, ascending.
    group_size
        Number of guides per group.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import build_ntc_group_inputs
    >>> prepared = build_ntc_group_inputs(inputs, group_size=2)
    >>> prepared.guides.size, prepared.signatures["GENE00"]
    (17, (2, 8))
    """

    guides: Int[np.ndarray, " ntc_guides"]
    frequency: Float64[np.ndarray, " guides"]
    bins: Int[np.ndarray, " guides"]
    signatures: Mapping[str, tuple[int, ...]]
    group_size: int


def build_ntc_group_inputs(inputs: CRTInputs, *, group_size: int = GROUP_SIZE, n_bins: int = 10) -> NTCGroupInputs:
    """Frequencies of the guides, their bins, and the bins of the guides of each gene.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    group_size
        Number of guides per group; it should be the number of guides per gene.
    n_bins
        Number of frequency bins, by quantiles of the frequencies of targeting guides.

    Returns
    -------
    NTCGroupInputs
        Input of `make_ntc_groups_matched_by_freq`.

    Raises
    ------
    InputError
        Where the screen has no genes, or fewer NTC guides than one group needs.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import build_ntc_group_inputs
    >>> sorted(set(build_ntc_group_inputs(inputs, group_size=2, n_bins=5).bins.tolist()))
    [0, 1, 2, 3, 4]
    """
    for name, value in (("group_size", group_size), ("n_bins", n_bins)):
        whole_number(name, value)
    if inputs.ntc_cols.size == 0:
        raise InputError("the screen has no NTC guides, so there are no NTC groups. Check which guides the map marks as NTC.", "ntc_labels", "guide_map")
    if inputs.ntc_cols.size < group_size:
        raise InputError(f"the screen has {inputs.ntc_cols.size} NTC guides, but group_size is {group_size}. Choose a smaller group_size.", "group_size")
    if not inputs.gene_to_cols:
        raise InputError("the screen has no target genes, so NTC groups cannot be matched to genes. Check the guide → gene map.")
    frequency = np.diff(inputs.guides.indptr) / inputs.all_cells.size
    real = np.concatenate(list(inputs.gene_to_cols.values()))
    edges = np.unique(np.quantile(frequency[real], np.linspace(0, 1, n_bins + 1)[1:-1]))
    bins = np.searchsorted(edges, frequency, side="right")
    signatures = {gene: tuple(int(b) for b in np.sort(bins[cols])) for gene, cols in inputs.gene_to_cols.items()}
    return NTCGroupInputs(guides=inputs.ntc_cols, frequency=frequency, bins=bins, signatures=signatures, group_size=int(group_size))


def make_ntc_groups_matched_by_freq(
    prepared: NTCGroupInputs, *, seed: int = 7, max_groups: int | None = None, prefix: str = "ntc_group"
) -> dict[str, Int[np.ndarray, " _"]]:
    """A random partition of the NTC guides into groups, each matched to the frequency bins of a random gene.

    Genes are drawn without replacement until all are used, guides without replacement throughout; guides that do not fill a group are left out. For each
    bin of the gene an NTC guide of that bin is taken, else one of the nearest bin with guides left. Of a gene with more than `group_size` guides a random
    subset of that many bins is matched; the bins of a gene with fewer guides are repeated.

    Parameters
    ----------
    prepared
        Frequencies of the guides, from `build_ntc_group_inputs`.
    seed
        Random seed.
    max_groups
        Maximum number of groups; None for as many as the guides allow.
    prefix
        Prefix of the names of the groups.

    Returns
    -------
    dict[str, numpy.ndarray]
        Columns of the guides of each group, ascending, by its name.

    Raises
    ------
    InputError
        Where `max_groups` is below 1.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import build_ntc_group_inputs, make_ntc_groups_matched_by_freq
    >>> groups = make_ntc_groups_matched_by_freq(build_ntc_group_inputs(inputs, group_size=2), seed=1, max_groups=3)
    >>> {name: columns.tolist() for name, columns in groups.items()}
    {'ntc_group_000': [52, 53], 'ntc_group_001': [42, 44], 'ntc_group_002': [49, 50]}
    """
    if max_groups is not None and max_groups < 1:
        raise InputError(f"max_groups is {max_groups}. Give 1 or more, or None for all groups.", "max_groups")
    rng = np.random.default_rng(unit_seed(seed, prefix, purpose="groups"))
    size = prepared.group_size
    n_groups = min(prepared.guides.size // size, max_groups or prepared.guides.size)
    left = rng.permutation(prepared.guides)
    bins = prepared.bins[left]
    genes: list[str] = []
    groups = {}
    for i in range(n_groups):
        if not genes:
            genes = [str(g) for g in rng.permutation(list(prepared.signatures))]
        taken = []
        for wanted in rng.permutation(_signature(prepared.signatures[genes.pop()], size, rng)):
            at = int(np.argmin(np.abs(bins - wanted)))  # the order of `left` is random, so ties are broken at random
            taken.append(left[at])
            left, bins = np.delete(left, at), np.delete(bins, at)
        groups[f"{prefix}_{i:03d}"] = np.sort(np.array(taken))
    return groups


def make_ntc_groups_ensemble(
    inputs: CRTInputs, *, n_ensemble: int = 10, seed0: int = 7, group_size: int = GROUP_SIZE, max_groups: int | None = None, n_bins: int = 10
) -> tuple[dict[str, Int[np.ndarray, " _"]], ...]:
    """Random partitions of the NTC guides, each from `make_ntc_groups_matched_by_freq` with its own random stream and its own names of groups.

    Parameters
    ----------
    inputs
        Screen, from `prepare_crt_inputs`.
    n_ensemble
        Number of partitions.
    seed0
        Random seed.
    group_size
        Number of guides per group; it should be the number of guides per gene.
    max_groups
        Maximum number of groups per partition; None for as many as the guides allow.
    n_bins
        Number of frequency bins.

    Returns
    -------
    tuple[dict[str, numpy.ndarray], ...]
        For each partition, the columns of the guides of each group by its name.

    Raises
    ------
    InputError
        On numbers below 1, or fewer NTC guides than one group needs.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import make_ntc_groups_ensemble
    >>> ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=2, group_size=2)
    >>> [len(groups) for groups in ensemble], list(ensemble[1])[:2]
    ([8, 8], ['ntc_01_000', 'ntc_01_001'])
    """
    whole_number("n_ensemble", n_ensemble)
    prepared = build_ntc_group_inputs(inputs, group_size=group_size, n_bins=n_bins)
    return tuple(make_ntc_groups_matched_by_freq(prepared, seed=seed0, max_groups=max_groups, prefix=f"ntc_{m:02d}") for m in range(n_ensemble))


def median_guides(inputs: CRTInputs) -> float:
    """The genes' median number of guides."""
    return float(np.median([len(columns) for columns in inputs.gene_to_cols.values()] or [1]))


def largest_group(inputs: CRTInputs) -> int:
    """The maximum size of NTC groups: all NTC guides, or half of them where cells with the other NTC guides are the controls."""
    return inputs.ntc_cols.size // (2 if inputs.control_group == "ntc_cells" else 1)


def matched_size(inputs: CRTInputs) -> int:
    """The genes' median number of guides, or the maximum size of NTC groups if that is smaller."""
    return max(1, min(round(median_guides(inputs)), largest_group(inputs)))


def check_groups(ensemble: Sequence[Groups], group_size: int) -> None:
    """Raise unless every group has `group_size` different guides and a name of its own; log the number of groups and their sizes."""
    if not ensemble or not all(ensemble):
        raise InputError("there are no NTC groups, or a partition is empty. Make groups with make_ntc_groups_ensemble.")
    names = [name for groups in ensemble for name in groups]
    if len(set(names)) < len(names):
        raise InputError("NTC groups of different partitions have the same name, which determines their random streams. Give each group its own name.")
    for groups in ensemble:
        for name, columns in groups.items():
            if np.unique(columns).size != group_size or np.size(columns) != group_size:
                raise InputError(
                    f"NTC group {name!r} has {np.unique(columns).size} different guides, but group_size is {group_size}. "
                    "Make the groups again with that size, or set group_size to theirs.",
                    "group_size",
                )
    sizes = np.array([np.size(columns) for groups in ensemble for columns in groups.values()])
    log.info(
        "%d NTC groups in %d partitions; guides in a group: min %d, median %g, max %d", sizes.size, len(ensemble), sizes.min(), np.median(sizes), sizes.max()
    )


def _signature(bins: Sequence[int], size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of a gene's bins: a random subset, or all of them with repeats."""
    repeats, rest = divmod(size, len(bins))
    return np.concatenate([np.tile(bins, repeats), rng.permutation(bins)[:rest]]).astype(np.int64)
