"""NTC groups: pseudo-genes of NTC guides matched to real genes in size and frequency."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crt.inputs import CRTInputs
from crt.sampling.streams import unit_seed
from data_prep.errors import InputError, whole_number

log = logging.getLogger(__name__)
Groups = Mapping[str, np.ndarray]  # name of a group → columns of its guides


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NTCGroupInputs:
    """What NTC groups are made of. `build_ntc_group_inputs` makes it.

    Attributes
    ----------
    guides
        Columns of the NTC guides.
    frequency
        Share of cells that carry each guide, (G,), of all guides.
    bins
        Frequency bin of each guide, (G,); the edges are quantiles of the real guides' frequencies.
    signatures
        Gene → the bins of its guides, rising.
    group_size
        Guides in a group.

    Examples
    --------
    >>> from crt import make_sceptre_style_synth, prepare_crt_inputs
    >>> inputs = prepare_crt_inputs(make_sceptre_style_synth(N=1000, K=4, n_target_genes=20, guides_per_gene=2, ntc_frac_guides=0.3, seed=1))
    >>> from crt import build_ntc_group_inputs
    >>> prepared = build_ntc_group_inputs(inputs, group_size=2)
    >>> prepared.guides.size, prepared.signatures["GENE00"]
    (17, (2, 8))
    """

    guides: np.ndarray
    frequency: np.ndarray
    bins: np.ndarray
    signatures: Mapping[str, tuple[int, ...]]
    group_size: int


def build_ntc_group_inputs(inputs: CRTInputs, *, group_size: int = 6, n_bins: int = 10) -> NTCGroupInputs:
    """Frequencies of the guides, their bins, and the bin signature of each real gene.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    group_size
        Guides in a group; give the number that genes of the screen have.
    n_bins
        Frequency bins, by quantiles of the real guides' frequencies.

    Returns
    -------
    NTCGroupInputs
        For `make_ntc_groups_matched_by_freq`.

    Raises
    ------
    InputError
        Where there are no genes to match, or fewer NTC guides than one group needs.

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
    if inputs.ntc_cols.size < group_size:
        raise InputError(f"the screen has {inputs.ntc_cols.size} NTC guides, but group_size is {group_size}. Give a smaller one (--group-size).")
    if not inputs.gene_to_cols:
        raise InputError("the screen has no target genes, so NTC groups have nothing to be matched to. Check the guide → gene map.")
    frequency = np.diff(inputs.guides.indptr) / inputs.all_cells.size
    real = np.concatenate(list(inputs.gene_to_cols.values()))
    edges = np.unique(np.quantile(frequency[real], np.linspace(0, 1, n_bins + 1)[1:-1]))
    bins = np.searchsorted(edges, frequency, side="right")
    signatures = {gene: tuple(int(b) for b in np.sort(bins[cols])) for gene, cols in inputs.gene_to_cols.items()}
    return NTCGroupInputs(guides=inputs.ntc_cols, frequency=frequency, bins=bins, signatures=signatures, group_size=int(group_size))


def make_ntc_groups_matched_by_freq(
    prepared: NTCGroupInputs, *, seed: int = 7, max_groups: int | None = None, prefix: str = "ntc_group"
) -> dict[str, np.ndarray]:
    """A random partition of the NTC guides into groups, each with the bin signature of a real gene drawn at random.

    Genes are drawn without replacement while they last, guides without replacement throughout; guides that are too few for another group stay out. A
    place in the signature takes an NTC guide of its bin, else of the nearest bin that has one left. A gene with more than `group_size` guides gives that
    many of its bins, at random; one with fewer gives each of them as often as it takes.

    Parameters
    ----------
    prepared
        Of `build_ntc_group_inputs`.
    seed
        Of the partition.
    max_groups
        At most this many groups; None for as many as the guides make.
    prefix
        Of the groups' names.

    Returns
    -------
    dict[str, numpy.ndarray]
        Name of a group → columns of its guides, rising.

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
        raise InputError(f"max_groups is {max_groups}; give 1 or more, or None for all.")
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
    inputs: CRTInputs, *, n_ensemble: int = 10, seed0: int = 7, group_size: int = 6, max_groups: int | None = None, n_bins: int = 10
) -> tuple[dict[str, np.ndarray], ...]:
    """Random partitions of the NTC guides, each by `make_ntc_groups_matched_by_freq` with its own stream of `seed0`; names differ between members.

    Parameters
    ----------
    inputs
        Of `prepare_crt_inputs`.
    n_ensemble
        How many partitions.
    seed0
        Of all of them.
    group_size
        Guides in a group; give the number that genes of the screen have.
    max_groups
        At most this many groups in a partition; None for as many as the guides make.
    n_bins
        Frequency bins.

    Returns
    -------
    tuple[dict[str, numpy.ndarray], ...]
        For each partition, name of a group → columns of its guides.

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


def check_groups(ensemble: Sequence[Groups], group_size: int) -> None:
    """Raise unless every group has `group_size` different guides and names are unique; log how many groups there are and their sizes."""
    if not ensemble or not all(ensemble):
        raise InputError("there are no NTC groups, or a member of the ensemble is empty. Make them with make_ntc_groups_ensemble.")
    names = [name for groups in ensemble for name in groups]
    if len(set(names)) < len(names):
        raise InputError("NTC groups of different ensemble members have the same name; a group's stream comes from its name, so give each its own.")
    for groups in ensemble:
        for name, columns in groups.items():
            if np.unique(columns).size != group_size or np.size(columns) != group_size:
                raise InputError(
                    f"NTC group {name!r} has {np.unique(columns).size} different guides, but group_size is {group_size}. "
                    "Make the groups again with that size, or give theirs as group_size (--group-size)."
                )
    sizes = np.array([np.size(columns) for groups in ensemble for columns in groups.values()])
    log.info(
        "%d NTC groups in %d partitions; guides in a group: min %d, median %g, max %d", sizes.size, len(ensemble), sizes.min(), np.median(sizes), sizes.max()
    )


def _signature(bins: Sequence[int], size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of a gene's bins: some of them at random, or all as often as it takes."""
    repeats, rest = divmod(size, len(bins))
    return np.concatenate([np.tile(bins, repeats), rng.permutation(bins)[:rest]]).astype(np.int64)
