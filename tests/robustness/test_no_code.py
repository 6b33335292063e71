"""No file that a command reads can run code: hostile files for each door, and no reader in the source that could."""

import ast
import pickle
import re

import h5py
import numpy as np
import pytest
import torch

from crt import prepare_crt_inputs, run_all_genes_union_crt
from data_prep.errors import InputError
from data_prep.files import locked
from tests import ROOT
from tests.commands import command
from tests.robustness.cases_files import Bomb, bomb, objects
from tests.robustness.inputs import Workspace

SOURCES = [path for package in ("data_prep", "hierarchy", "crt", "fatescreen", "scripts") for path in (ROOT / package).rglob("*.py")]


def calls(path):
    """Every call in a file: its dotted name and the call."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(name, call):
    """Whether a call can run code from a file or a text."""
    keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
    last = name.rsplit(".", 1)[-1]
    if name in ("eval", "exec", "compile", "__import__", "os.system"):
        return True
    if re.match(r"(pickle|cPickle|dill|cloudpickle|joblib|marshal|shelve|subprocess)\.", name) or last in (
        "read_pickle",
        "unsafe_load",
        "full_load",
        "UnsafeLoader",
    ):
        return True
    if name in ("np.load", "numpy.load"):
        return keywords.get("allow_pickle") != "False"
    if name == "torch.load":
        return keywords.get("weights_only") != "True"
    if name == "yaml.load":
        return keywords.get("Loader") not in ("_Plain", "yaml.SafeLoader")
    return keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True"


def test_no_reader_that_runs_code():
    found = {f"{path.relative_to(ROOT)}:{call.lineno} {name}" for path in SOURCES for name, call in calls(path) if unsafe(name, call)}
    assert len(SOURCES) > 40 and found == set()


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "torch.load(p)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "yaml.load(t, Loader=yaml.Loader)",
        "yaml.unsafe_load(t)",
        "pickle.loads(b)",
        "pd.read_pickle(p)",
    ],
)
def test_the_search_finds(text, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(text)
    assert [unsafe(name, call) for name, call in calls(path)][0]


def hdf5_attribute(workspace):
    """A pickle as an attribute, and an array of Python objects as bytes, as old writers left them."""
    path = workspace.screen(lambda a: None)
    with h5py.File(path, "a") as file:
        file["obsm/lineages_fwd"].attrs["encoding-type"] = "pickle"
        file["uns"].attrs["payload"] = np.void(bomb(workspace))
        file["uns/payload"] = np.void(bomb(workspace))
    return [path]


def zarr_objects(workspace):
    import json
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the format that is written
        path = workspace.screen(lambda a: None, ".zarr")
    meta = next(p for p in path.joinpath("obsm", "lineages_fwd").rglob(".zarray"))
    metadata = json.loads(meta.read_text())
    metadata |= {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}], "compressor": None, "fill_value": None}
    for name in (".zmetadata",):
        (path / name).unlink(missing_ok=True)
    meta.write_text(json.dumps(metadata))
    for chunk in meta.parent.glob("[0-9]*"):
        chunk.write_bytes(bomb(workspace))
    return [path]


def yaml_call(workspace):
    mark = workspace.inputs / "executed"
    return [*workspace.valid_arguments(), "--config", workspace.file("c.yaml", f"seed: !!python/object/apply:os.mkdir ['{mark}']\n")]


def record_call(workspace):
    mark = workspace.inputs / "executed"
    workspace.file("run.json", f'{{"command": "fit-hierarchy", "options": !!python/object/apply:os.mkdir ["{mark}"]}}')
    return [*workspace.valid_arguments(), "--config", workspace.inputs / "run.json"]


def cache(workspace):
    torch.save(Bomb(workspace.inputs / "executed"), workspace.inputs / "c.pt")
    return [*workspace.valid_arguments(), "--cache", workspace.inputs / "c.pt"]


def checkpoint(workspace):
    torch.save({"format": 1, "key": Bomb(workspace.inputs / "executed")}, workspace.out / "checkpoint.pt")
    return workspace.valid_arguments()


def finished(workspace):
    objects(workspace, next((workspace.out / "finished").glob("*.npz")))
    return workspace.valid_arguments()


def npy_screen(workspace):
    np.save(workspace.inputs / "s.npy", np.array([Bomb(workspace.inputs / "executed")], dtype=object), allow_pickle=True)
    return [workspace.inputs / "s.npy"]


def table_of(name):
    def arguments(workspace):
        return [workspace.file(name, bomb(workspace)), workspace.valid_arguments()[1]]

    return arguments


HOSTILE = [
    ("fit-hierarchy", hdf5_attribute),
    ("fit-hierarchy", zarr_objects),
    ("fit-hierarchy", yaml_call),
    ("fit-hierarchy", record_call),
    ("fit-hierarchy", cache),
    ("fit-hierarchy", checkpoint),
    ("fit-hierarchy", npy_screen),
    ("run-crt", finished),
    ("score-daywise", table_of("t.pkl")),
    ("score-daywise", table_of("t.csv")),
]


@pytest.mark.parametrize(("name", "arguments"), HOSTILE, ids=lambda part: getattr(part, "__name__", part))
def test_hostile_files_run_nothing(name, arguments, valid_inputs, tmp_path):
    workspace = Workspace(valid_inputs, tmp_path, name)
    done = command(name, *arguments(workspace), "--out", workspace.out)
    assert not (workspace.inputs / "executed").exists()
    assert done.code == 2 and "Traceback" not in done.err, done


def test_unpickling_would_run_code(tmp_path):
    """Otherwise the tests above could not fail."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "executed"))).close()
    assert (tmp_path / "executed").exists()


def test_a_second_run_of_the_library_is_refused(valid_inputs, tmp_path):
    """`out_dir` belongs to one run, whether a command or a call; afterwards it is free."""
    inputs = prepare_crt_inputs(valid_inputs.usage)
    first = run_all_genes_union_crt(inputs, B=19, out_dir=tmp_path)
    with locked(tmp_path / "finished"), pytest.raises(InputError, match="another run is writing in .*finished. Wait until it ends"):
        run_all_genes_union_crt(inputs, B=19, out_dir=tmp_path)
    again = run_all_genes_union_crt(inputs, B=19, out_dir=tmp_path)
    assert first.pvals_df.equals(again.pvals_df) and sorted(p.name for p in tmp_path.iterdir()) == ["finished", "run_fingerprint.json"]
