"""`Screen` → `FateData`: the tensors of the hierarchy, frozen, on one device, with a `.pt` cache."""

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from data_prep.errors import InputError, first_few
from data_prep.read.guides import index_guides
from data_prep.screen import Screen
from data_prep.tensor_file import load_tensors, save_tensors

CACHE_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FateData:
    """What the model sees: N cells, G targeting guides of L genes, D days, R replicates, F fates (the reference first).

    `build_fate_data` makes it; all tensors are on one device.

    Attributes
    ----------
    guide_to_gene
        Gene of each targeting guide, int64 [G].
    n_guides_per_gene
        Guides of each gene, int64 [L], at least 1.
    gene_offsets
        0, then the running sum of `n_guides_per_gene`, int64 [L + 1].
    guides_by_gene
        Guides sorted by gene, int64 [G]: gene ℓ's are `guides_by_gene[gene_offsets[ℓ]:gene_offsets[ℓ + 1]]`.
    cell_offsets
        Offsets into `cell_guides`, int64 [N + 1].
    cell_guides
        The targeting guides of cell i are `cell_guides[cell_offsets[i]:cell_offsets[i + 1]]`; int64 [entries].
    guide_burden
        Guides in each cell (NTC included) less the mean of the cell's day, float32 [N].
    day
        Codes of the days, int64 [N].
    rep
        Codes of the replicates, int64 [N].
    fate_prob
        Fate probabilities, float32 [N, F]; rows sum to 1, and column 0 is the reference fate.
    genes
        Names of the genes, (L,), sorted.
    guides
        Names of the targeting guides, (G,).
    fates
        Names of the fates, (F,), the reference first.
    days
        Labels of the days, (D,), in time order.
    reps
        Labels of the replicates, (R,).
    cells
        Names of the cells, (N,).
    fingerprint
        SHA-256 of the screen and the reference fate.
    cluster
        Codes of the clusters for robust errors, int64 [N], or None.

    Raises
    ------
    InputError
        Where the guide index is inconsistent, or the parts disagree in size.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> data = build_fate_data(screen, ref_fate="EC")
    >>> data.n_cells, data.n_guides, data.n_genes, data.n_days, data.n_reps, data.n_free
    (500, 30, 5, 4, 2, 2)
    >>> data.n_guides_per_gene.tolist(), data.gene_offsets.tolist()
    ([6, 6, 6, 6, 6], [0, 6, 12, 18, 24, 30])
    """

    guide_to_gene: Tensor
    n_guides_per_gene: Tensor
    gene_offsets: Tensor
    guides_by_gene: Tensor
    cell_offsets: Tensor
    cell_guides: Tensor
    guide_burden: Tensor
    day: Tensor
    rep: Tensor
    fate_prob: Tensor
    genes: tuple[str, ...]
    guides: tuple[str, ...]
    fates: tuple[str, ...]
    days: tuple[str, ...]
    reps: tuple[str, ...]
    cells: tuple[str, ...]
    fingerprint: str
    cluster: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the index (every guide in exactly one gene, offsets and counts in agreement) and that cells, codes and names fit."""
        if len(self.guide_to_gene) != self.n_guides or bool(((self.guide_to_gene < 0) | (self.guide_to_gene >= self.n_genes)).any()):
            raise InputError(f"the guide index is inconsistent: guide_to_gene must hold a gene, 0 to {self.n_genes - 1}, for each of {self.n_guides} guides.")
        count = torch.bincount(self.guide_to_gene, minlength=self.n_genes)
        offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
        if count.numel() != self.n_genes or not torch.equal(count, self.n_guides_per_gene) or not torch.equal(offsets, self.gene_offsets):
            raise InputError("the guide index is inconsistent: guide_to_gene, n_guides_per_gene and gene_offsets disagree.")
        if bool((count == 0).any()):
            raise InputError(f"genes without a guide: {first_few(self.genes[i] for i in torch.where(count == 0)[0].tolist())}.")
        if not torch.equal(self.guides_by_gene.sort().values, torch.arange(self.n_guides, device=count.device)):
            raise InputError("guides_by_gene does not list every guide exactly once.")
        if bool((self.guide_to_gene[self.guides_by_gene].diff() < 0).any()):
            raise InputError("guides_by_gene is not sorted by gene.")
        self._check_cells()

    def _check_cells(self) -> None:
        n = self.n_cells
        sizes = {name: len(getattr(self, name)) for name in ("rep", "fate_prob", "guide_burden", "cells")} | {"cell_offsets": len(self.cell_offsets) - 1}
        sizes |= {} if self.cluster is None else {"cluster": len(self.cluster)}
        if wrong := {name: size for name, size in sizes.items() if size != n}:
            raise InputError(f"the parts differ in size: {n} cells by day, but {wrong}.")
        if self.fate_prob.ndim != 2 or self.fate_prob.shape[1] != len(self.fates):
            raise InputError(f"fate_prob has shape {tuple(self.fate_prob.shape)} but there are {len(self.fates)} fates.")
        ends = self.cell_offsets[[0, -1]].tolist()
        if ends != [0, len(self.cell_guides)] or bool((self.cell_offsets.diff() < 0).any()):
            raise InputError("cell_offsets must rise from 0 to the length of cell_guides.")
        for name, codes, size in (("cell_guides", self.cell_guides, self.n_guides), ("day", self.day, self.n_days), ("rep", self.rep, self.n_reps)):
            if bool(((codes < 0) | (codes >= size)).any()):
                raise InputError(f"{name} holds codes outside 0 to {size - 1}.")

    @property
    def n_cells(self) -> int:
        """N."""
        return len(self.day)

    @property
    def n_guides(self) -> int:
        """G, the targeting guides."""
        return len(self.guides)

    @property
    def n_genes(self) -> int:
        """L."""
        return len(self.genes)

    @property
    def n_days(self) -> int:
        """D."""
        return len(self.days)

    @property
    def n_reps(self) -> int:
        """R."""
        return len(self.reps)

    @property
    def n_free(self) -> int:
        """F* = F − 1, the fates that are not the reference."""
        return len(self.fates) - 1

    @property
    def device(self) -> torch.device:
        """The device all tensors are on."""
        return self.day.device

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    def to(self, device: torch.device | str) -> "FateData":
        """The same data on `device`."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in self.tensors().items()}
        return replace(self, **moved)


def build_fate_data(screen: Screen, *, ref_fate: str) -> FateData:
    """The tensors of a screen, with `ref_fate` as the zero of the softmax.

    Parameters
    ----------
    screen
        Of `read_screen`.
    ref_fate
        The fate against which log-odds are taken. Pick one that is common: effects of all other fates are relative to it.

    Returns
    -------
    FateData
        On the CPU; `.to("cuda")` moves it.

    Raises
    ------
    InputError
        Where the screen has no such fate.

    Examples
    --------
    >>> from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> build_fate_data(screen, ref_fate="MES").fates
    ('MES', 'EC', 'NEU')
    """
    if ref_fate not in screen.fate_names:
        raise InputError(f"the reference fate {ref_fate!r} is not among the fates: {', '.join(screen.fate_names)}. Name one of them with --ref-fate.")
    order = [screen.fate_names.index(ref_fate)] + [i for i, f in enumerate(screen.fate_names) if f != ref_fate]
    targeting = np.flatnonzero(~screen.is_ntc)
    index = index_guides(screen.guide_gene[targeting])
    own = screen.guides[:, targeting]
    burden = np.diff(screen.guides.indptr).astype(np.float64)
    per_day = np.bincount(screen.day, weights=burden) / np.bincount(screen.day)
    return FateData(
        guide_to_gene=torch.from_numpy(index.guide_to_gene),
        n_guides_per_gene=torch.from_numpy(index.n_guides_per_gene),
        gene_offsets=torch.from_numpy(index.gene_offsets),
        guides_by_gene=torch.from_numpy(index.guides_by_gene),
        cell_offsets=torch.from_numpy(own.indptr.astype(np.int64)),
        cell_guides=torch.from_numpy(own.indices.astype(np.int64)),
        guide_burden=torch.from_numpy((burden - per_day[screen.day]).astype(np.float32)),
        day=torch.from_numpy(screen.day.copy()),
        rep=torch.from_numpy(screen.rep.copy()),
        fate_prob=torch.from_numpy(screen.fate_prob[:, order].astype(np.float32)),
        genes=tuple(str(g) for g in index.genes),
        guides=tuple(str(g) for g in screen.guide_names[targeting]),
        fates=tuple(screen.fate_names[i] for i in order),
        days=screen.day_labels,
        reps=screen.rep_labels,
        cells=tuple(screen.cells.tolist()),
        fingerprint=fingerprint(screen, ref_fate=ref_fate),
        cluster=None if screen.clusters is None else torch.from_numpy(screen.clusters.copy()),
    )


def fingerprint(screen: Screen, *, ref_fate: str) -> str:
    """SHA-256 over everything in the screen that `build_fate_data` reads."""
    digest = hashlib.sha256(f"fate-data {CACHE_FORMAT} {ref_fate}".encode())
    arrays = [screen.guides.indptr.astype(np.int64), screen.guides.indices.astype(np.int64), screen.is_ntc]
    arrays += [screen.fate_prob, screen.day, screen.rep]
    arrays += [] if screen.clusters is None else [screen.clusters]
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    names = (screen.cells, screen.guide_names, screen.guide_gene, screen.fate_names, screen.day_labels, screen.rep_labels)
    for group in names:
        digest.update(("\x1f".join(map(str, group)) + "\x1e").encode())
    return digest.hexdigest()


def save_fate_data(data: FateData, path: str | Path) -> None:
    """Write the tensors, names, format version and fingerprint to a `.pt` file, atomically."""
    content: dict[str, object] = {f.name: getattr(data, f.name) for f in fields(data)}
    content = {k: list(v) if isinstance(v, tuple) else v.cpu() if isinstance(v, Tensor) else v for k, v in content.items()}
    save_tensors({"format": CACHE_FORMAT, "kind": "fate-data", **content}, Path(path))


def load_fate_data(path: str | Path, *, expected: str | None = None) -> FateData:
    """Read a `.pt` cache; no code in it is run.

    Raises
    ------
    InputError
        when it is not such a cache, has another format version, or its fingerprint is not `expected`.
    """
    content = _read_cache(Path(path))
    if content["format"] != CACHE_FORMAT:
        raise InputError(f"the cache {path} has format {content['format']}, not {CACHE_FORMAT}. Delete it; it is built again.")
    if expected is not None and content.get("fingerprint") != expected:
        raise InputError(f"the cache {path} is of another screen or other settings. Delete it; it is built again.")
    return _from_cache(content, Path(path))


def cached_fate_data(screen: Screen, *, ref_fate: str, path: str | Path) -> FateData:
    """The tensors from the cache at `path` if it is of this screen and these settings, else built and cached there.

    A stale cache is rebuilt; a file that is no such cache is refused.

    Parameters
    ----------
    screen
        Of `read_screen`.
    ref_fate
        As in `build_fate_data`.
    path
        The `.pt` file. No code in it is run.

    Returns
    -------
    FateData
        The same as `build_fate_data` gives.

    Raises
    ------
    InputError
        Where the file is there and is no cache of fate tensors, or the screen has no such fate.

    Examples
    --------
    >>> import tempfile
    >>> from data_prep import ScreenDesign, cached_fate_data, read_screen, simulate_fate_screen
    >>> screen = read_screen(simulate_fate_screen(ScreenDesign(n_cells=500, n_genes=5), seed=1).adata)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     built = cached_fate_data(screen, ref_fate="EC", path=f"{folder}/tensors.pt")
    ...     again = cached_fate_data(screen, ref_fate="EC", path=f"{folder}/tensors.pt")
    >>> built.fingerprint == again.fingerprint
    True
    """
    path = Path(path)
    if path.exists():
        content = _read_cache(path)
        if content["format"] == CACHE_FORMAT and content.get("fingerprint") == fingerprint(screen, ref_fate=ref_fate):
            return _from_cache(content, path)
    data = build_fate_data(screen, ref_fate=ref_fate)
    save_fate_data(data, path)
    return data


def _read_cache(path: Path) -> dict[str, Any]:
    """What is stored in a cache of any format; a foreign file is an error, and no code in it is run."""
    if not path.is_file():
        raise InputError(f"the cache {path} is not a file. Choose another path.")
    try:
        content = load_tensors(path)
    except Exception as error:  # torch raises many kinds for a foreign file
        raise InputError(f"{path} is not a cache of fate tensors ({type(error).__name__}). Choose another path, or delete it.") from error
    if not isinstance(content, dict) or content.pop("kind", None) != "fate-data":
        raise InputError(f"{path} is not a cache of fate tensors. Choose another path, or delete it.")
    return {"format": None, **content}


def _from_cache(content: dict[str, Any], path: Path) -> FateData:
    parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k != "format"}
    if parts.keys() != {f.name for f in fields(FateData)}:
        raise InputError(f"the cache {path} lacks parts of the fate tensors, or has others. Delete it; it is built again.")
    try:
        _check_parts(parts)
        return FateData(**parts)
    except (InputError, RuntimeError) as error:
        raise InputError(f"the cache {path} does not hold what was saved there: {error} Delete it; it is built again.") from error


def _check_parts(parts: dict[str, Any]) -> None:
    """Types, shapes and values that `build_fate_data` gives and `FateData` takes as given."""
    for name, kind in get_type_hints(FateData).items():
        value = parts[name]
        if kind is str or get_origin(kind) is tuple:
            texts = (value,) if kind is str else value
            if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
                raise InputError(f"{name} is not text.")
        elif value is not None or name != "cluster":
            dtype, ndim = (torch.float32, 1 + (name == "fate_prob")) if name in ("fate_prob", "guide_burden") else (torch.int64, 1)
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype != dtype or value.ndim != ndim:
                raise InputError(f"{name} is not a tensor of {dtype} with {ndim} axes.")
    prob = parts["fate_prob"]
    if not prob.numel() or not bool((prob >= 0).all() & ((prob.sum(1) - 1).abs() < 1e-3).all()) or not bool(parts["guide_burden"].isfinite().all()):
        raise InputError("fate_prob is not made of probabilities, or guide_burden is not finite.")
