"""Where the data of the cells are during a run, by the memory that it may use."""

import contextlib
import json

import pytest

from data_prep import InputError, ScreenDesign, simulate_fate_screen
from data_prep.blocks.cluster import ClusterLost
from data_prep.blocks.place import MEMORY
from data_prep.memory import Needs, in_use
from fatescreen.cli import storage as module
from fatescreen.cli.command import NoResult
from fatescreen.cli.storage import places
from tests.commands import command, snapshot

MIB, GIB = 2**20, 2**30


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    simulate_fate_screen(ScreenDesign(n_cells=400, n_genes=4, guides_per_gene=3, n_days=2), seed=0).adata.write_h5ad(path)
    return path


def test_a_process_has_some_memory():
    assert 50 * MIB < in_use() < 100 * GIB


def test_memory_is_enough_or_files_are_used_or_the_least_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "in_use", lambda: GIB)
    needs = Needs(in_memory=3 * GIB, in_files=0.5 * GIB)
    for memory in (None, 4 * GIB):
        with places(tmp_path, memory=memory, scheduler=None) as choose:
            assert choose(needs) == MEMORY
    with places(tmp_path, memory=2 * GIB, scheduler=None) as choose:
        scratch = choose(needs).folder
        assert scratch.parent == tmp_path and scratch.name.startswith(".partial-")
        (scratch / "x").write_text("x")
    assert not any(tmp_path.iterdir())
    wanted = r"the run takes at least 1.5 GiB of memory, and 1.4 GiB is allowed. Allow 1.5GiB."
    with pytest.raises(InputError, match=wanted) as error, places(tmp_path, memory=int(1.4 * GIB), scheduler=None) as choose:
        choose(needs)
    assert error.value.arguments == ("memory",)


def test_a_lost_cluster_ends_a_run_without_a_result(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "connect", lambda scheduler: contextlib.nullcontext(scheduler))
    with pytest.raises(NoResult, match="it is gone"), places(tmp_path, memory=None, scheduler="tcp://a:1") as choose:
        place = choose(Needs(1, 1))
        assert place.folder.is_dir() and place.client == "tcp://a:1"
        raise ClusterLost("it is gone")
    assert not any(tmp_path.iterdir())


def test_a_fit_in_files_writes_the_same_bytes(monkeypatch, file, tmp_path):
    monkeypatch.setattr("data_prep.blocks.base.BLOCK_CELLS", 150)
    monkeypatch.setattr("hierarchy.problem.memory_needs", lambda data: Needs(in_memory=2**50, in_files=1))
    done = [command("fit-hierarchy", file, "--out", tmp_path / name, "--no-report", *memory) for name, *memory in (("a",), ("b", "--memory", "512GiB"))]
    assert [one.code for one in done] == [0, 0], done[1].err
    assert "data of the cells: in files" in done[1].out and "data of the cells" not in done[0].out
    found = [snapshot(tmp_path / name) for name in "ab"]
    records = [json.loads(one.pop("run.json")) for one in found]
    assert found[0] == found[1] and records[1]["options"].pop("memory") == 512 * GIB and records[0]["options"].pop("memory") is None
    assert [record | {"options": {**record["options"], "out": ""}} for record in records][0] == records[1] | {"options": {**records[1]["options"], "out": ""}}


def test_a_budget_too_small_is_an_error_before_the_fit(file, tmp_path):
    done = command("fit-hierarchy", file, "--out", tmp_path / "o", "--memory", "1MB")
    assert done.code == 2 and "the run takes at least" in done.err and "Option: --memory." in done.err and not (tmp_path / "o").exists()
