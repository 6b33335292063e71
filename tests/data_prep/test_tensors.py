"""The tensors against slow oracles, their constructor and their fingerprint."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.read.screen import read_screen
from data_prep.screen import Screen
from data_prep.tensors import FateData, build_fate_data, fingerprint


@pytest.fixture(scope="module")
def screen(simulated) -> Screen:
    return read_screen(simulated.adata)


@pytest.fixture(scope="module")
def data(screen) -> FateData:
    return build_fate_data(screen, ref_fate="MES")


@st.composite
def screens(draw) -> Screen:
    n_guides, n_cells = draw(st.integers(1, 8)), draw(st.integers(1, 12))
    gene = np.array(draw(st.lists(st.sampled_from(["A", "B", "C10", "C2"]), min_size=n_guides, max_size=n_guides)), dtype=object)
    is_ntc = np.array(draw(st.lists(st.booleans(), min_size=n_guides, max_size=n_guides)))
    is_ntc[0] = False
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    present = (rng.random((n_cells, n_guides)) < 0.5).astype(np.float32)
    day = np.unique(rng.integers(0, 3, n_cells), return_inverse=True)[1]
    return Screen(
        cells=np.array([f"c{i}" for i in range(n_cells)], dtype=object),
        guides=sp.csr_matrix(present),
        guide_names=np.array([f"g{i}" for i in range(n_guides)], dtype=object),
        guide_gene=np.where(is_ntc, "NTC", gene),
        is_ntc=is_ntc,
        fate_prob=rng.dirichlet(np.ones(3), n_cells),
        fate_names=("EC", "MES", "NEU"),
        day=day,
        day_labels=tuple(f"d{i}" for i in range(day.max() + 1)),
        rep=np.zeros(n_cells, np.int64),
        rep_labels=("r",),
    )


@settings(max_examples=60, deadline=None)
@given(screens(), st.sampled_from(["EC", "MES", "NEU"]))
def test_tensors_against_a_slow_oracle(screen, ref):
    data = build_fate_data(screen, ref_fate=ref)
    targeting = [g for g in range(len(screen.is_ntc)) if not screen.is_ntc[g]]
    genes = sorted({screen.guide_gene[g] for g in targeting})
    assert data.genes == tuple(genes)
    assert data.guides == tuple(screen.guide_names[targeting])
    assert data.guide_to_gene.tolist() == [genes.index(screen.guide_gene[g]) for g in targeting]
    for i in range(data.n_genes):
        own = data.guides_by_gene[data.gene_offsets[i] : data.gene_offsets[i + 1]].tolist()
        assert own == [j for j, g in enumerate(targeting) if screen.guide_gene[g] == genes[i]]
        assert len(own) == data.n_guides_per_gene[i]
    dense = screen.guides.toarray()
    for i in range(data.n_cells):
        own = data.cell_guides[data.cell_offsets[i] : data.cell_offsets[i + 1]].tolist()
        assert own == [j for j, g in enumerate(targeting) if dense[i, g]]
        same_day = [k for k in range(data.n_cells) if screen.day[k] == screen.day[i]]
        burden = dense[i].sum() - np.mean([dense[k].sum() for k in same_day])  # NTC guides count
        assert data.guide_burden[i].item() == pytest.approx(burden, abs=1e-5)
    assert data.fates == (ref, *[f for f in screen.fate_names if f != ref])
    for j, fate in enumerate(data.fates):
        np.testing.assert_allclose(data.fate_prob[:, j], screen.fate_prob[:, screen.fate_names.index(fate)], atol=1e-7)


def test_types_and_sizes(data, screen):
    other = {"guide_burden": torch.float32, "fate_prob": torch.float32} | dict.fromkeys(("cell_guides", "day", "rep"), torch.int32)
    assert all(value.dtype == other.get(name, torch.int64) for name, value in data.tensors().items())
    assert (data.n_cells, data.n_genes, data.n_days, data.n_reps, data.n_free) == (300, 6, 3, 2, 2)
    assert data.n_guides == len(data.guides) == (~screen.is_ntc).sum()
    for day in range(3):
        assert abs(data.guide_burden[data.day == day].mean()) < 1e-5


def test_to_moves_the_tensors_and_makes_no_check_again(data, monkeypatch):
    monkeypatch.setattr(FateData, "__post_init__", lambda self: pytest.fail("checked again"))
    moved = data.to("meta")
    assert moved.device.type == "meta" and data.device.type == "cpu"
    assert moved.tensors().keys() == data.tensors().keys() and moved.cells is data.cells and moved.fingerprint == data.fingerprint


def test_the_screen_is_not_shared(screen):
    data = build_fate_data(screen, ref_fate="EC")
    before = [screen.day.copy(), screen.rep.copy(), screen.fate_prob.copy(), screen.guides.indices.copy()]
    for value in data.tensors().values():
        value.zero_()
    after = [screen.day, screen.rep, screen.fate_prob, screen.guides.indices]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_an_unknown_reference_is_refused(screen):
    with pytest.raises(InputError, match="reference fate 'HSC' is not among the fates: EC, MES, NEU"):
        build_fate_data(screen, ref_fate="HSC")


def bumped(tensor: torch.Tensor, position: int, by: int) -> torch.Tensor:
    changed = tensor.clone()
    changed[position] += by
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"guide_to_gene": bumped(d.guide_to_gene, 0, 1)}, "disagree|not sorted"),
        (lambda d: {"guide_to_gene": bumped(d.guide_to_gene, 0, 99)}, "must hold a gene, 0 to 5"),
        (lambda d: {"guide_to_gene": bumped(d.guide_to_gene, 0, -1)}, "must hold a gene, 0 to 5"),
        (lambda d: {"guide_to_gene": d.guide_to_gene[1:]}, "for each of"),
        (lambda d: {"n_guides_per_gene": bumped(d.n_guides_per_gene, 0, 1)}, "n_guides_per_gene and gene_offsets disagree"),
        (lambda d: {"gene_offsets": bumped(d.gene_offsets, 2, 1)}, "disagree"),
        (lambda d: {"guides_by_gene": d.guides_by_gene.flip(0)}, "not sorted by gene"),
        (lambda d: {"guides_by_gene": torch.zeros_like(d.guides_by_gene)}, "every guide exactly once"),
        (lambda d: {"cell_offsets": bumped(d.cell_offsets, -1, 1)}, "cell_offsets must rise"),
        (lambda d: {"cell_offsets": bumped(d.cell_offsets, 1, 999)}, "cell_offsets must rise"),
        (lambda d: {"cell_guides": bumped(d.cell_guides, 0, 99)}, "cell_guides holds codes outside 0 to"),
        (lambda d: {"day": bumped(d.day, 0, 9)}, "day holds codes outside 0 to 2"),
        (lambda d: {"rep": bumped(d.rep, 0, -9)}, "rep holds codes outside 0 to 1"),
        (lambda d: {"rep": d.rep[1:]}, r"300 cells by day, but \{'rep': 299\}"),
        (lambda d: {"cluster": d.rep[1:]}, r"'cluster': 299"),
        (lambda d: {"cells": d.cells[1:]}, r"'cells': 299"),
        (lambda d: {"fates": d.fates[1:]}, r"fate_prob has shape \(300, 3\) but there are 2 fates"),
    ],
)
def test_the_constructor_refuses_what_does_not_fit(change, message, data, shapes_unchecked):
    with pytest.raises(InputError, match=message):
        replace(data, **change(data))


def test_a_gene_without_guides_is_refused(data, shapes_unchecked):
    with pytest.raises(InputError, match="genes without a guide: GHOST"):
        zero = data.n_guides_per_gene.new_zeros(1)
        replace(
            data,
            genes=(*data.genes, "GHOST"),
            n_guides_per_gene=torch.cat([data.n_guides_per_gene, zero]),
            gene_offsets=torch.cat([data.gene_offsets, data.gene_offsets[-1:]]),
        )


def test_fingerprint_follows_every_part(screen):
    first = fingerprint(screen, ref_fate="EC")
    assert first == fingerprint(read_again(screen), ref_fate="EC")
    prob, day, guides, is_ntc = screen.fate_prob.copy(), screen.day.copy(), screen.guides.copy(), screen.is_ntc.copy()
    prob[0, 0] += 1e-9
    day[0] = 2 - day[0] if day[0] != 1 else 0
    guides.indices[0] = (guides.indices[0] + 1) % guides.shape[1]
    is_ntc[0] = True
    changes = [
        {"fate_prob": prob},
        {"day": day},
        {"rep": 1 - screen.rep},
        {"guides": guides},
        {"is_ntc": is_ntc},
        {"clusters": screen.rep},
        {"cells": np.array(["x", *screen.cells[1:]], dtype=object)},
        {"guide_names": np.array(["x", *screen.guide_names[1:]], dtype=object)},
        {"guide_gene": np.array(["x", *screen.guide_gene[1:]], dtype=object)},
        {"fate_names": ("EC", "MES", "N")},
        {"day_labels": ("0", "1", "2")},
        {"rep_labels": ("a", "b")},
    ]
    seen = {fingerprint(replace(screen, **change), ref_fate="EC") for change in changes} | {first, fingerprint(screen, ref_fate="MES")}
    assert len(seen) == len(changes) + 2


def read_again(screen: Screen) -> Screen:
    wide = sp.csr_matrix(screen.guides)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    return replace(screen, guides=wide, fate_prob=np.asfortranarray(screen.fate_prob))
