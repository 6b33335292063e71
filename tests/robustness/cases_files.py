"""Invalid files: damaged, foreign, empty, of another version, or hostile."""

import pickle
import shutil
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import torch

from data_prep.tensor_file import load_tensors, save_tensors
from tests.robustness.inputs import Case, Workspace


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def bomb(workspace: Workspace) -> bytes:
    return pickle.dumps(Bomb(workspace.inputs / "executed"))


def flipped(content: bytes, where: float = 0.5, n: int = 40) -> bytes:
    """The same with `n` consecutive bytes inverted."""
    first = int(len(content) * where)
    return content[:first] + bytes(b ^ 0xFF for b in content[first : first + n]) + content[first + n :]


SCREENS = {"fit-hierarchy": "fates.h5ad", "run-crt": "usage.h5ad", "diagnose-null": "usage.h5ad"}


def of_file(name, content, *expected, by="fit-hierarchy", called="screen.h5ad"):
    """A screen's file of the content that `content` makes of the right one's bytes."""

    def arguments(workspace):
        valid = (workspace.valid_inputs.files / SCREENS[by]).read_bytes()
        return [workspace.file(called, content(valid) if callable(content) else content), *workspace.valid_arguments()[1:]]

    return Case(by, name, arguments, (called, *expected))


def foreign_hdf5(workspace):
    path = workspace.inputs / "other.h5ad"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(3)
    return [path]


def zarr(corrupt):
    def arguments(workspace):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the format that is written
            path = workspace.screen(lambda a: None, ".zarr")
        corrupt(path)
        return [path, *workspace.valid_arguments()[1:]]

    return arguments


def without_root(path):
    for name in ("zarr.json", ".zgroup", ".zattrs", ".zmetadata"):
        (path / name).unlink(missing_ok=True)


def half_chunks(path):
    for chunk in path.rglob("*"):
        if chunk.is_file() and "lineages_fwd" in chunk.parts and chunk.name[0].isdigit():
            chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


def empty_folder(workspace):
    path = workspace.inputs / "screen.zarr"
    path.mkdir()
    return [path]


def mudata(corrupt):
    def arguments(workspace):
        import mudata as md

        adata = workspace.valid_inputs.fates.copy()
        path = workspace.inputs / "screen.h5mu"
        with md.set_options(pull_on_update=False):
            corrupt(md, adata, path)
        return [path, *workspace.valid_arguments()[1:]]

    return arguments


def half_h5mu(md, adata, path):
    md.MuData({"rna": adata}).write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def in_two_modalities(md, adata, path):
    md.MuData({"rna": adata, "gdo": adata.copy()}).write(path)


SCREEN_FILES = [
    Case("fit-hierarchy", "a screen that is not there", lambda workspace: [workspace.inputs / "none.h5ad"], ("none.h5ad does not exist", "Give the path")),
    of_file("an empty screen", b"", "Is it a complete"),
    of_file("a screen of text", b"guide,gene\n", "Is it a complete"),
    of_file("half a screen", lambda valid: valid[: len(valid) // 2], "Is it a complete"),
    of_file("a screen with its head lost", lambda valid: bytes(512) + valid[512:], "Is it a complete"),
    of_file("a picture as screen", b"\x89PNG\r\n\x1a\n" + bytes(200), "Is it a complete", called="screen.png"),
    Case("fit-hierarchy", "HDF5 that is no screen", foreign_hdf5, ("other.h5ad", "no obs table", "Give an .h5ad")),
    Case("fit-hierarchy", "a table as screen", lambda workspace: [workspace.valid_inputs.files / "truth.csv"], ("truth.csv", "Is it a complete")),
    Case("fit-hierarchy", "a folder as screen", empty_folder, ("screen.zarr",)),
    Case("fit-hierarchy", "a zarr without its root", zarr(without_root), ("screen.zarr",)),
    Case("fit-hierarchy", "a zarr with half its chunks", zarr(half_chunks), ("screen.zarr", "lineages_fwd", "Is the file complete?")),
    Case("fit-hierarchy", "half an h5mu", mudata(half_h5mu), ("screen.h5mu", "Is it a complete")),
    Case("fit-hierarchy", "fates in two modalities", mudata(in_two_modalities), ("2 modalities", "Keep one")),
    of_file("half a screen", lambda valid: valid[: len(valid) // 2], "Is it a complete", by="run-crt"),
    of_file("an empty screen", b"", "Is it a complete", by="diagnose-null"),
]


def guide_map(name, content, *expected, called="map.csv"):
    return Case("fit-hierarchy", name, lambda workspace: [*workspace.valid_arguments(), "--guide-map", workspace.file(called, content)], (called, *expected))


MAPS = [
    Case(
        "fit-hierarchy",
        "a map that is not there",
        lambda workspace: [*workspace.valid_arguments(), "--guide-map", workspace.inputs / "no.csv"],
        ("no.csv is not a file", "Give a CSV"),
    ),
    Case(
        "fit-hierarchy", "a folder as map", lambda workspace: [*workspace.valid_arguments(), "--guide-map", workspace.inputs], ("is not a file", "Give a CSV")
    ),
    guide_map("an empty map", b"", "Save it as UTF-8"),
    guide_map("a map of headings", b"guide_name,gene_name\n", "no rows"),
    guide_map("a map in Latin-1", "guide_name,gene_name\ng\u00e9,A\n".encode("latin-1"), "Save it as UTF-8"),
    guide_map("a map with semicolons", b"guide_name;gene_name\na;b\n", "no column 'guide_name'", "It needs"),
    guide_map("a map with ragged rows", b"guide_name,gene_name\na,b\nc,d,e,f\n", "Save it as UTF-8"),
    guide_map("a map that is not zip", b"no", called="map.zip"),
    guide_map("a map of bytes", bytes(range(256)) * 4),
    guide_map("a map with an unnamed guide", b"guide_name,gene_name\n,A\n", "rows 0", "Name or delete"),
]


def cache(name, content, *expected):
    """fit-hierarchy with a cache whose content `content` makes from the workspace and the path of a valid cache."""

    def arguments(workspace):
        path = workspace.inputs / "tensors.pt"
        from data_prep import cached_fate_data, read_screen

        cached_fate_data(read_screen(workspace.valid_inputs.fates), ref_fate="EC", path=path)
        made = content(workspace, path)
        if isinstance(made, bytes):
            path.write_bytes(made)
        return [*workspace.valid_arguments(), "--cache", path]

    return Case("fit-hierarchy", name, arguments, ("tensors.pt", *expected))


def resaved(change):
    """A cache whose tensors and names `change` changes."""

    def made(_, path):
        tensors, names = load_tensors(path)
        change(tensors, names)
        save_tensors(tensors, names, path)

    return made


CACHES = [
    cache("a cache of text", lambda *_: b"no tensors", "delete it"),
    cache("an empty cache", lambda *_: b"", "delete it"),
    cache("a pickle as cache", lambda workspace, _: bomb(workspace), "delete it"),
    cache("a pickle that torch saved", lambda workspace, path: torch.save(Bomb(workspace.inputs / "executed"), path), "delete it"),
    cache("half a cache", lambda _, path: path.read_bytes()[: path.stat().st_size // 2], "delete it"),
    cache("a cache with inverted bytes", lambda _, path: flipped(path.read_bytes()), "elete it"),
    cache("other tensors as cache", lambda _, path: torch.save({"x": torch.ones(3)}, path), "delete it"),
    cache("a cache without a part", resaved(lambda tensors, _: tensors.pop("day")), "Delete it"),
    cache("a cache with text for a tensor", resaved(lambda tensors, names: names.update(day=str(tensors.pop("day")))), "Delete it"),
    cache("a cache with another type", resaved(lambda tensors, _: tensors.update(day=tensors["day"].float())), "Delete it"),
    cache("a cache with a NaN", resaved(lambda tensors, _: tensors["fate_prob"].mul_(float("nan"))), "Delete it"),
    cache("a cache with numbers for names", resaved(lambda _, names: names.update(genes=list(range(len(names["genes"]))))), "Delete it"),
    cache("a cache with a wrong code", resaved(lambda tensors, _: tensors["rep"].add_(7)), "Delete it"),
]


def checkpoint(name, content, *expected):
    def arguments(workspace):
        made = content(workspace)
        if isinstance(made, bytes):
            (workspace.out / "checkpoint.pt").write_bytes(made)
        return [*workspace.valid_arguments(), "--out", workspace.out]

    return Case("fit-hierarchy", name, arguments, ("checkpoint.pt", *expected))


CHECKPOINTS = [
    checkpoint("a checkpoint of text", lambda workspace: b"no state", "Delete it"),
    checkpoint("an empty checkpoint", lambda workspace: b"", "Delete it"),
    checkpoint("a pickle as checkpoint", bomb, "Delete it"),
    checkpoint("a folder as checkpoint", lambda workspace: (workspace.out / "checkpoint.pt").mkdir(), "Delete it"),
    checkpoint("a checkpoint of another run", lambda workspace: torch.save({"format": 1, "key": "x"}, workspace.out / "checkpoint.pt"), "Delete it"),
    checkpoint("a checkpoint of another version", lambda workspace: torch.save({"format": 99}, workspace.out / "checkpoint.pt"), "Delete it"),
]


def finished(name, corrupt, *expected, options=()):
    """run-crt again after the finished targets of an earlier run were corrupted."""

    def arguments(workspace):
        corrupt(workspace, next((workspace.out / "finished").glob("*.npz")))
        return [*workspace.valid_arguments(), "--out", workspace.out, *options]

    return Case("run-crt", name, arguments, expected)


def rewritten(change):
    def corrupt(_, path):
        with np.load(path) as held:
            values = dict(held)
        change(values)
        np.savez(path, **values)

    return corrupt


def objects(workspace, path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("name.npy", b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n" + bomb(workspace))


def fingerprint(content):
    return lambda workspace, _: (workspace.out / "run_fingerprint.json").write_bytes(content)


def fingerprint_folder(workspace, _):
    (workspace.out / "run_fingerprint.json").unlink()
    (workspace.out / "run_fingerprint.json").mkdir()


def out_is_not_a_folder(workspace, _):
    shutil.rmtree(workspace.out / "finished")
    (workspace.out / "finished").write_text("here")


NPZ = ".npz is damaged"
AGAIN = "Delete it, and its targets are tested again"
FINISHED = [
    finished("an empty npz", lambda _, path: path.write_bytes(b""), NPZ, AGAIN),
    finished("an npz of text", lambda _, path: path.write_bytes(b"no arrays"), NPZ, AGAIN),
    finished("half an npz", lambda _, path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), NPZ, AGAIN),
    finished("an npz with inverted bytes", lambda _, path: path.write_bytes(flipped(path.read_bytes())), NPZ, AGAIN),
    finished("an npz of pickles", objects, NPZ, AGAIN),
    finished("a pickle as npz", lambda workspace, path: path.write_bytes(bomb(workspace)), NPZ, AGAIN),
    finished("an npz without a column", rewritten(lambda v: v.pop("beta")), NPZ, AGAIN),
    finished("an npz of other programs", rewritten(lambda v: v.update(beta=v["beta"][:, :1])), NPZ, AGAIN),
    finished("an npz with names for numbers", rewritten(lambda v: v.update(z=v["z"].astype(str))), NPZ, AGAIN),
    finished("a fingerprint that is not JSON", fingerprint(b"{"), "run_fingerprint.json is damaged", "--no-resume"),
    finished("an empty fingerprint", fingerprint(b""), "run_fingerprint.json is damaged", "--no-resume"),
    finished("a fingerprint of a hundred thousand brackets", fingerprint(b"[" * 100_000), "run_fingerprint.json is damaged", "--no-resume"),
    finished("a fingerprint in UTF-16", fingerprint("{}".encode("utf-16")), "run_fingerprint.json is damaged", "--no-resume"),
    finished("a fingerprint of another run", fingerprint(b'{"format": 1, "inputs": "x"}'), "another screen", "--no-resume", options=("--resume",)),
    finished("a fingerprint of another version", fingerprint(b'{"format": 99}'), "the run cannot resume", "--no-resume", options=("--resume",)),
    finished("a folder as fingerprint", fingerprint_folder, "run_fingerprint.json is a folder", "Remove it"),
    finished("a file as folder of finished targets", out_is_not_a_folder, "finished is not a folder", "--out"),
]
CASES = SCREEN_FILES + MAPS + CACHES + CHECKPOINTS + FINISHED
