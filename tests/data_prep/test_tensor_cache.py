"""The cache of tensors: reused, rebuilt or refused."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_prep import tensor_cache, tensor_file, tensors
from data_prep.errors import InputError
from data_prep.read.screen import read_screen
from data_prep.screen import Screen
from data_prep.tensor_cache import cached_fate_data
from data_prep.tensor_file import load_tensors, save_tensors
from data_prep.tensors import FateData, build_fate_data


@pytest.fixture(scope="module")
def screen(simulated) -> Screen:
    return read_screen(simulated.adata)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "data.pt"


@pytest.fixture
def builds(monkeypatch):
    """The reference fates of the tensors that were built, not read."""
    made = []
    monkeypatch.setattr(tensor_cache, "build_fate_data", lambda screen, ref_fate: made.append(ref_fate) or build_fate_data(screen, ref_fate=ref_fate))
    return made


def equal(a: FateData, b: FateData) -> bool:
    names = ("genes", "guides", "fates", "days", "reps", "fingerprint")
    mine, theirs = a.tensors(), b.tensors()
    return (
        mine.keys() == theirs.keys()
        and all(torch.equal(mine[k], theirs[k]) for k in mine)
        and np.array_equal(a.cells, b.cells)
        and all(getattr(a, n) == getattr(b, n) for n in names)
    )


@pytest.mark.parametrize("clusters", [False, True])
def test_round_trip(clusters, screen, path, builds):
    screen = replace(screen, clusters=screen.rep) if clusters else screen
    built = cached_fate_data(screen, ref_fate="MES", path=path)
    again = cached_fate_data(screen, ref_fate="MES", path=str(path))
    assert builds == ["MES"]
    assert equal(again, built) and (again.cluster is not None) == clusters
    assert [p.name for p in path.parent.iterdir()] == ["data.pt"]


def test_a_stale_cache_is_rebuilt(screen, path, builds, monkeypatch):
    cached_fate_data(screen, ref_fate="MES", path=path)
    assert cached_fate_data(screen, ref_fate="EC", path=path).fates[0] == "EC"
    cached_fate_data(replace(screen, rep=1 - screen.rep), ref_fate="EC", path=path)
    monkeypatch.setattr(tensors, "FORMAT", tensors.FORMAT + 1)
    cached_fate_data(screen, ref_fate="EC", path=path)
    assert builds == ["MES", "EC", "EC", "EC"]
    save_tensors({}, {"kind": "fate-data"}, path)  # of another version, with other parts
    assert cached_fate_data(screen, ref_fate="EC", path=path).n_cells == 300


class Bomb:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "other tensors", "half", "one bit", "folder"])
def test_a_foreign_or_damaged_file_is_refused_and_runs_no_code(kind, screen, tmp_path):
    path, mark = tmp_path / "data.pt", tmp_path / "ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif kind == "torch":
        torch.save({"kind": "fate-data", "bomb": Bomb(mark)}, path)
    elif kind == "text":
        path.write_text("gene,betahat\n")
    elif kind == "other tensors":
        save_tensors({"layer": torch.zeros(2)}, {}, path)
    elif kind in ("half", "one bit"):
        cached_fate_data(screen, ref_fate="EC", path=path)
        content = path.read_bytes()
        path.write_bytes(content[:2000] if kind == "half" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    else:
        path.mkdir()
    before = None if kind == "folder" else path.read_bytes()
    with pytest.raises(InputError, match=r"data\.pt is not a (cache of fate tensors|file).*Choose another path"):
        cached_fate_data(screen, ref_fate="EC", path=path)
    assert not mark.exists()
    assert path.is_dir() if before is None else path.read_bytes() == before


def test_the_bomb_would_have_gone_off(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(more=1), "lacks parts of the fate tensors, or has other parts"),
        (lambda t, m: t.pop("day"), "lacks parts of the fate tensors, or has other parts"),
        (lambda t, m: t.update(day=t["day"].float()), r"wrong type \(day\)"),
        (lambda t, m: t.update(fate_prob=t["fate_prob"][:, 0]), r"wrong type \(fate_prob\)"),
        (lambda t, m: m.update(genes=[1] * len(m["genes"])), r"wrong type \(genes\)"),
        (lambda t, m: t["fate_prob"].mul_(float("nan")), "fates that are not probabilities"),
        (lambda t, m: t["guide_burden"].mul_(float("inf")), "guide burden that is not finite"),
        (lambda t, m: t["rep"].add_(7), "does not fit together: rep holds codes outside"),
    ],
)
def test_a_cache_with_other_content_is_refused(change, message, screen, path):
    cached_fate_data(screen, ref_fate="EC", path=path)
    held, meta = load_tensors(path)
    change(held, meta)
    save_tensors(held, meta, path)
    with pytest.raises(InputError, match=f"{message}.* Delete it to build it again"):
        cached_fate_data(screen, ref_fate="EC", path=path)


def test_a_failed_save_leaves_the_old_cache(screen, path, monkeypatch):
    cached_fate_data(screen, ref_fate="EC", path=path)
    before = path.read_bytes()
    monkeypatch.setattr(tensor_file, "save", lambda *_, **__: "not bytes, so that writing them fails")
    with pytest.raises(TypeError):
        cached_fate_data(screen, ref_fate="MES", path=path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["data.pt"]
