"""Simulated cells in blocks: the random numbers of each block, and an .h5ad that is written block by block."""

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import write_elem
from jaxtyping import Int, Shaped
from tqdm import tqdm

from data_prep.blocks.base import block_slices
from data_prep.files import atomic

CELL = "cell"
ENCODINGS = {"array": "0.2.0", "string-array": "0.2.0", "categorical": "0.2.0", "dataframe": "0.2.0", "csr_matrix": "0.1.0"}  # of anndata
CHUNK = 2**17  # entries of a sparse matrix


def block_streams(n_cells: int, seed: int) -> list[tuple[slice, np.random.Generator]]:
    """The cells of each block and its stream of random numbers, which depends on the seed and the number of the block; that of the first is the seed's."""
    seeds = (np.random.SeedSequence(seed, spawn_key=(i,) if i else ()) for i in range(len(block_slices(n_cells))))
    return [(rows, np.random.default_rng(of_block)) for rows, of_block in zip(block_slices(n_cells), seeds, strict=True)]


def cell_index(rows: slice) -> pd.Index:
    """The names of these cells."""
    return pd.Index([f"{CELL}{i}" for i in range(rows.start, rows.stop)])


def carried(number: Int[np.ndarray, " cells"], columns: Int[np.ndarray, " entries"], n_guides: int) -> sp.csr_matrix:
    """Presence (cells, guides), bool, from the number of guides that are drawn for each cell, and these guides; a guide that is drawn twice is present once."""
    rows = np.repeat(np.arange(number.size), number)
    return sp.csr_matrix((np.ones(rows.size, bool), (rows, columns)), shape=(number.size, n_guides))


def stacked(parts: Sequence[Any]) -> Any:
    """Rows of blocks, arrays, CSR matrices or categoricals of the same categories, as one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], pd.Categorical):
        return pd.Categorical.from_codes(np.concatenate([part.codes for part in parts]), dtype=parts[0].dtype)
    return sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)


def write_screen(path: str | Path, n_cells: int, blocks: Iterable[ad.AnnData], *, progress: bool = False) -> None:
    """Write an .h5ad from its blocks of cells; the file is there when it is complete.

    Parameters
    ----------
    path
        The file.
    n_cells
        Number of cells of all blocks.
    blocks
        The cells in order: `obs` and `obsm`, with the same columns and categories in each block. All else is taken from the first.
    progress
        Whether to show a progress bar on a terminal.
    """
    slices = block_slices(n_cells)
    with atomic(path) as temporary:
        if len(slices) == 1:
            image = io.BytesIO()
            _write(image, slices, blocks, progress)
            temporary.write_bytes(image.getbuffer())
            return
        with _Disk(temporary, "w+b") as disk:
            try:
                _write(disk, slices, blocks, progress, disk.check)
            finally:
                disk.check(0)  # rather than what HDF5 raises after a failed write


def _write(
    disk: IO[bytes], slices: Sequence[slice], blocks: Iterable[ad.AnnData], progress: bool, check: Callable[[float], None] = lambda share_left: None
) -> None:
    """Write all blocks; `check` is called after each with the number of those left, over the number of those written."""
    n_cells = slices[-1].stop
    with h5py.File(disk, "w") as file, tqdm(total=n_cells, unit=" cells", disable=None if progress else True) as bar:
        for i, (block, rows) in enumerate(zip(blocks, slices, strict=True), start=1):
            if not rows.start:
                write_elem(file, "/", ad.AnnData(uns=block.uns))
                for slot in ("obs", "obsm"):
                    del file[slot]
                file.create_group("obsm").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
            _append(file, "obs", block.obs, rows, n_cells)
            for key, value in block.obsm.items():
                _append(file["obsm"], key, value, rows, n_cells)
            bar.update(block.n_obs)
            file.flush()
            check(len(slices) / i - 1)


class _Disk(io.FileIO):
    """A file that keeps what its writes raise, such as a full disk, for `check`: HDF5 can then be closed, which it refuses after a failed write."""

    failure: BaseException | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or nothing after a failure."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and self.failure is None:
                left = left[super().write(left) :]
        except BaseException as failure:  # an interrupt too
            self.failure = failure
        return size

    def check(self, share_left: float) -> None:
        """Raise the failure, if there is one, or where the disk has no room for what is left, relative to what is written: a write should not fail."""
        if self.failure is not None:
            raise self.failure
        if shutil.disk_usage(Path(str(self.name)).parent).free < 512 * os.fstat(self.fileno()).st_blocks * share_left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.name))


def _append(parent: h5py.Group, key: str, value: Any, rows: slice, n_cells: int) -> None:
    """Write these rows of an element of any kind that simulated screens have."""
    if isinstance(value, pd.DataFrame):
        group = _group(parent, key, "dataframe", {"_index": "_index", "column-order": np.array(list(value.columns), dtype=h5py.string_dtype())})
        _append(group, "_index", value.index.to_numpy(dtype=f"S{len(f'{CELL}{n_cells - 1}')}"), rows, n_cells)
        for column in value.columns:
            _append(
                group, str(column), value[column].array if isinstance(value[column].dtype, pd.CategoricalDtype) else value[column].to_numpy(), rows, n_cells
            )
    elif isinstance(value, pd.Categorical):
        group = _group(parent, key, "categorical", {"ordered": bool(value.ordered)})
        if "categories" not in group:
            write_elem(group, "categories", value.categories.to_numpy())
        _append(group, "codes", value.codes, rows, n_cells)
    elif sp.issparse(value):
        _append_sparse(_group(parent, key, "csr_matrix", {"shape": np.array([n_cells, value.shape[1]])}), value, rows, n_cells)
    else:
        if key not in parent:
            stored = parent.create_dataset(key, shape=(n_cells, *value.shape[1:]), dtype=value.dtype)
            _encoded(stored, "string-array" if value.dtype.kind == "S" else "array")
        parent[key][rows] = value


def _append_sparse(group: h5py.Group, value: sp.csr_matrix, rows: slice, n_cells: int) -> None:
    if "indptr" not in group:
        _append(group, "indptr", np.zeros(1, np.int64), slice(0, 1), n_cells + 1)
        for name in ("data", "indices"):
            _encoded(group.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(CHUNK,), dtype=getattr(value, name).dtype), "array")
    before = group["data"].size
    for name in ("data", "indices"):
        group[name].resize((before + value.nnz,))
        group[name][before:] = getattr(value, name)
    group["indptr"][rows.start + 1 : rows.stop + 1] = value.indptr[1:].astype(np.int64) + before


def _group(parent: h5py.Group, key: str, kind: str, attributes: dict[str, Shaped[np.ndarray, "..."] | str | bool]) -> h5py.Group:
    if key not in parent:
        _encoded(parent.create_group(key), kind)
        parent[key].attrs.update(attributes)
    return parent[key]


def _encoded(stored: h5py.Group | h5py.Dataset, kind: str) -> None:
    stored.attrs.update({"encoding-type": kind, "encoding-version": ENCODINGS[kind]})
