"""Every accepted form gives the same screen; everything wrong is named."""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from data_prep.errors import InputError, ScreenWarning
from data_prep.read.guide_map import GuideMap
from data_prep.read.guides import presence
from data_prep.read.screen import ScreenKeys, read_screen
from data_prep.screen import Screen
from data_prep.simulate.fates import SimulatedScreen
from data_prep.tensors import build_fate_data, fingerprint

Change = Callable[[ad.AnnData], None]
N = 300


def same(screen: Screen, simulated: SimulatedScreen) -> bool:
    return fingerprint(screen, ref_fate="EC") == fingerprint(read_screen(simulated.adata), ref_fate="EC")


class Lineage(np.ndarray):
    """As CellRank stores fates: an array with names that shows itself plainly as `.X`."""

    def __new__(cls, values, names):
        made = np.asarray(values).view(cls)
        made._names = names
        return made

    def __array_finalize__(self, other):
        self._names = getattr(other, "_names", None)

    @property
    def names(self):
        return np.array(self._names)

    @property
    def X(self):
        return np.asarray(self)


def put(slot: str, key: str, make: Callable[[object], object]) -> Change:
    def change(adata: ad.AnnData) -> None:
        holder = getattr(adata, slot)
        holder[key] = make(holder[key])

    return change


def guide_as(make: Callable[[np.ndarray], object]) -> Change:
    return put("obsm", "guide", lambda m: make(m.toarray()))


def guide_frame(dtype: object) -> Change:
    def change(adata: ad.AnnData) -> None:
        values = pd.DataFrame(adata.obsm["guide"].toarray(), index=adata.obs_names, columns=list(adata.uns.pop("guide_names")))
        adata.obsm["guide"] = values.astype(dtype)

    return change


def wide_index(adata: ad.AnnData) -> None:
    guides = adata.obsm["guide"]
    guides.indices, guides.indptr = guides.indices.astype(np.int64), guides.indptr.astype(np.int64)


def stored_zeros(adata: ad.AnnData) -> None:
    everywhere = adata.obsm["guide"].toarray()
    rows, cols = np.indices(everywhere.shape).reshape(2, -1)
    adata.obsm["guide"] = sp.csr_matrix((everywhere.ravel(), (rows, cols)), shape=everywhere.shape)
    assert adata.obsm["guide"].nnz == everywhere.size


def overflowing_duplicates(adata: ad.AnnData) -> None:
    guides = adata.obsm["guide"].tocsr()
    repeated = np.repeat(guides.indices, 2)
    adata.obsm["guide"] = sp.csr_matrix((np.full(repeated.size, 128, np.uint8), repeated, guides.indptr * 2), shape=guides.shape)


def bare_fates(key: str, names: object = ("EC", "MES", "NEU")) -> Change:
    def change(adata: ad.AnnData) -> None:
        adata.obsm["lineages_fwd"] = adata.obsm["lineages_fwd"].to_numpy()
        adata.uns[key] = names

    return change


def lineage(adata: ad.AnnData) -> None:
    adata.obsm["lineages_fwd"] = Lineage(adata.obsm["lineages_fwd"].to_numpy(), ["EC", "MES", "NEU"])
    assert isinstance(adata.obsm["lineages_fwd"], Lineage)


def rep_in_obs(adata: ad.AnnData) -> None:
    adata.obs["rep"] = adata.obsm["covar"]["rep"]
    del adata.obsm["covar"]


def guide2gene(adata: ad.AnnData) -> None:
    table = adata.uns.pop("guide_map")
    adata.uns["guide2gene"] = dict(zip(table["guide_name"], table["gene_name"], strict=True))


def guides_in_layers(adata: ad.AnnData) -> ad.AnnData:
    moved = ad.AnnData(obs=adata.obs, var=pd.DataFrame(index=list(adata.uns["guide_names"])), uns=dict(adata.uns), obsm=dict(adata.obsm))
    moved.layers["guide"] = moved.obsm.pop("guide")
    return moved


FORMS: dict[str, Change] = {
    "as it is": lambda adata: None,
    "fates f8 nullable": put("obsm", "lineages_fwd", lambda f: f.astype("Float64")),
    "fates object": put("obsm", "lineages_fwd", lambda f: f.astype(object)),
    "fates array, names by key": bare_fates("lineages_fwd_names", ["EC", "MES", "NEU"]),
    "fates array, fate_names": bare_fates("fate_names", np.array(["EC", "MES", "NEU"])),
    "fates array, bytes": bare_fates("lineage_names", np.array([b"EC", b"MES", b"NEU"])),
    "fates array, categorical": bare_fates("fate_names", pd.Categorical(["EC", "MES", "NEU"])),
    "fates Lineage": lineage,
    "guide CSC": put("obsm", "guide", sp.csc_matrix),
    "guide CSR array": put("obsm", "guide", sp.csr_array),
    "guide dense": guide_as(np.asarray),
    "guide counts": guide_as(lambda m: (m * 37).astype(np.uint16)),
    "guide bool": guide_as(lambda m: m.astype(bool)),
    "guide bool CSR": guide_as(lambda m: sp.csr_matrix(m.astype(bool))),
    "guide float16": guide_as(lambda m: m.astype(np.float16)),
    "guide int64 index": wide_index,
    "guide stored zeros": stored_zeros,
    "guide duplicates that overflow": overflowing_duplicates,
    "guide frame": guide_frame(np.float32),
    "guide frame bool": guide_frame(bool),
    "guide frame nullable bool": guide_frame("boolean"),
    "guide frame nullable int": guide_frame("Int64"),
    "guide frame object": guide_frame(object),
    "guide frame sparse": guide_frame(pd.SparseDtype(np.float32, 0)),
    "guide names list": put("uns", "guide_names", list),
    "guide names index": put("uns", "guide_names", pd.Index),
    "guide names bytes": put("uns", "guide_names", lambda names: np.array([n.encode() for n in names])),
    "guide names object bytes": put("uns", "guide_names", lambda names: [n.encode() for n in names]),
    "day strings": put("obs", "day", lambda d: np.asarray(d.astype(str))),
    "day nullable strings": put("obs", "day", lambda d: d.astype(str).astype("string")),
    "day ordered": put("obs", "day", lambda d: d.cat.as_ordered()),
    "day bytes": put("obs", "day", lambda d: [label.encode() for label in d]),
    "rep in obs": rep_in_obs,
    "rep object": put("obsm", "covar", lambda c: c.astype(object)),
    "map categorical": put("uns", "guide_map", lambda m: m.astype({"guide_name": "category", "gene_name": "category"})),
    "map without is_ntc": put("uns", "guide_map", lambda m: m[["gene_name", "guide_name"]]),
    "map is_ntc 0/1": put("uns", "guide_map", lambda m: m.assign(is_ntc=m["is_ntc"].astype(int))),
    "map is_ntc yes/no": put("uns", "guide_map", lambda m: m.assign(is_ntc=m["is_ntc"].map({True: "yes", False: "No"}))),
    "map is_ntc nullable": put("uns", "guide_map", lambda m: m.assign(is_ntc=m["is_ntc"].astype("boolean"))),
    "map shuffled": put("uns", "guide_map", lambda m: m.sample(frac=1, random_state=0)),
    "guide2gene": guide2gene,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_screen(form, screen_adata, simulated):
    FORMS[form](screen_adata)
    assert same(read_screen(screen_adata), simulated)


@pytest.mark.parametrize(
    "form", ["as it is", "fates array, fate_names", "fates Lineage", "guide CSC", "guide dense", "guide frame", "day ordered", "guide2gene"]
)
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_files_give_the_same_screen(form, kind, screen_adata, simulated, tmp_path):
    FORMS[form](screen_adata)
    if form == "fates Lineage":  # as CellRank does on writing: a plain array, the names apart
        bare_fates("lineages_fwd_names", np.array(["EC", "MES", "NEU"]))(_framed(screen_adata))
    path = tmp_path / f"screen.{kind}"
    getattr(screen_adata, f"write_{kind}")(path)
    assert same(read_screen(path), simulated)
    assert same(read_screen(str(path)), simulated)


def _framed(adata: ad.AnnData) -> ad.AnnData:
    fates = adata.obsm["lineages_fwd"]
    adata.obsm["lineages_fwd"] = pd.DataFrame(fates.X, index=adata.obs_names, columns=fates.names)
    return adata


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda d: d, ("0", "1", "2")),
        (lambda d: d.astype(np.int32), ("0", "1", "2")),
        (lambda d: d.astype(float), ("0", "1", "2")),
        (lambda d: pd.array(d, dtype="Int64"), ("0", "1", "2")),
        (lambda d: d.astype(str), ("0", "1", "2")),
        (lambda d: pd.Categorical(d), ("0", "1", "2")),
        (lambda d: [f"day {x}" for x in d], ("day 0", "day 1", "day 2")),
        (lambda d: d / 2, ("0", "0.5", "1")),
        (lambda d: pd.Categorical(np.array(["early", "mid", "late"])[d], ["early", "mid", "late"], ordered=True), ("early", "mid", "late")),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_days(make, labels, on_disk, screen_adata, simulated, tmp_path):
    codes = simulated.adata.obs["day"].str[1:].astype(int).to_numpy()
    screen_adata.obs["day"] = make(codes)
    if on_disk:
        screen_adata.write_h5ad(tmp_path / "screen.h5ad")
    screen = read_screen(tmp_path / "screen.h5ad" if on_disk else screen_adata)
    assert screen.day_labels == labels
    assert same(replace(screen, day_labels=("d0", "d1", "d2")), simulated)


def test_layers(screen_adata, simulated):
    assert same(read_screen(guides_in_layers(screen_adata)), simulated)


@pytest.fixture
def mdata(screen_adata):
    guides = screen_adata.obsm.pop("guide")
    names = list(screen_adata.uns.pop("guide_names"))
    part = ad.AnnData(X=guides, obs=pd.DataFrame(index=screen_adata.obs_names), var=pd.DataFrame(index=names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return mudata.MuData({"rna": screen_adata, "guide": part})


@pytest.mark.parametrize("on_disk", [False, True])
def test_mudata(on_disk, mdata, simulated, tmp_path):
    if on_disk:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            mdata.write(tmp_path / "screen.h5mu")
    assert same(read_screen(tmp_path / "screen.h5mu" if on_disk else mdata), simulated)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_mudata_whose_parts_differ(mdata):
    rna, guide = mdata.mod["rna"], mdata.mod["guide"]
    with pytest.raises(InputError, match=r"mod\['guide'\] has 290 rows but MuData has 300 cells.*intersect_obs"):
        read_screen(mudata.MuData({"rna": rna, "guide": guide[:290].copy()}))
    two = mudata.MuData({"rna": rna, "more": rna.copy(), "guide": guide})
    with pytest.raises(InputError, match=r"obsm\['lineages_fwd'\] is in 2 modalities.*Keep one"):
        read_screen(two)
    mdata.mod["guide"].X = None
    with pytest.raises(InputError, match=r"mod\['guide'\]\.X must be a numeric cells × guides matrix"):
        read_screen(mdata)


@pytest.mark.parametrize(("ending", "sep"), [(".csv", ","), (".tsv", "\t"), (".txt", "\t")])
def test_guide_map_files(ending, sep, screen_adata, simulated, tmp_path):
    del screen_adata.uns["guide_map"]
    path = tmp_path / f"map{ending}"
    simulated.guide_map.to_csv(path, sep=sep, index=False)
    assert same(read_screen(screen_adata, guide_map=path), simulated)
    assert same(read_screen(screen_adata, guide_map=str(path)), simulated)
    assert same(read_screen(screen_adata, guide_map=simulated.guide_map), simulated)
    assert same(read_screen(screen_adata, guide_map=GuideMap.from_frame(simulated.guide_map)), simulated)


def test_ntc_labels(screen_adata, simulated):
    table = simulated.guide_map.drop(columns="is_ntc").replace("non-targeting", "ctrl")
    assert same_but_labels(read_screen(screen_adata, guide_map=table, ntc_labels=("ctrl",)), simulated)
    assert same_but_labels(read_screen(screen_adata, guide_map=table, ntc_labels="ctrl"), simulated)


def same_but_labels(screen: Screen, simulated: SimulatedScreen) -> bool:
    return same(replace(screen, guide_gene=np.where(screen.is_ntc, "non-targeting", screen.guide_gene)), simulated)


def test_inputs_are_left_alone(screen_adata, simulated):
    arrays = [screen_adata.obsm["lineages_fwd"].to_numpy(), *(getattr(screen_adata.obsm["guide"], a) for a in ("data", "indices", "indptr"))]
    screen_adata.obsm["guide"].data[:4] = 0.0  # read as absent, and kept where they are
    before = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    bare_fates("fate_names")(screen_adata)
    screen_adata.obsm["lineages_fwd"].flags.writeable = False
    obs, covar = screen_adata.obs.copy(), screen_adata.obsm["covar"].copy()
    screen = read_screen(screen_adata)
    build_fate_data(screen, ref_fate="MES")
    assert screen.guides.nnz == screen_adata.obsm["guide"].nnz - 4
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    pd.testing.assert_frame_equal(obs, screen_adata.obs)
    pd.testing.assert_frame_equal(covar, screen_adata.obsm["covar"])
    pd.testing.assert_frame_equal(simulated.guide_map, screen_adata.uns["guide_map"])


def test_crowded_cells_leave_and_the_others_keep_their_names(screen_adata):
    number = np.diff(screen_adata.obsm["guide"].indptr)
    keep = np.flatnonzero(number <= 3)
    with pytest.warns(ScreenWarning, match=rf"{N - keep.size} of 300 cells carry more than 3 guides and were dropped"):
        screen = read_screen(screen_adata, max_guides_per_cell=3)
    assert screen.cells.tolist() == screen_adata.obs_names[keep].tolist()
    assert screen.dropped["cells_over_max_guides"] == N - keep.size
    np.testing.assert_allclose(screen.fate_prob, screen_adata.obsm["lineages_fwd"].to_numpy()[keep], rtol=1e-12)
    assert [screen.day_labels[i] for i in screen.day] == screen_adata.obs["day"].iloc[keep].tolist()
    assert [screen.rep_labels[i] for i in screen.rep] == screen_adata.obsm["covar"]["rep"].iloc[keep].tolist()
    assert (screen.guides != presence(screen_adata.obsm["guide"], screen_adata.obs_names.to_numpy(), where="")[keep]).nnz == 0
    data = build_fate_data(screen, ref_fate="EC")
    assert data.cells.tolist() == list(screen_adata.obs_names[keep])


def test_guides_of_the_map_without_cells_count_nowhere(screen_adata, simulated):
    table = simulated.guide_map
    lost = table.index[table["gene_name"] == "GENE1"].tolist() + [table.index[table["gene_name"] == "GENE0"][0]]
    kept = np.setdiff1d(np.arange(len(table)), lost)
    matrix = screen_adata.obsm["guide"].toarray()
    matrix[:, lost] = 0
    screen_adata.obsm["guide"] = matrix
    with pytest.warns(ScreenWarning) as message:
        screen = read_screen(screen_adata)
    assert any(f"{len(lost)} guides of the map are in no kept cell" in str(w.message) for w in message)
    assert any("1 genes have no guide in the data and were dropped: GENE1" in str(w.message) for w in message)
    assert screen.dropped["genes_without_cells"] == ["GENE1"]
    assert screen.guide_names.tolist() == table["guide_name"].iloc[kept].tolist()
    data = build_fate_data(screen, ref_fate="EC")
    targeting = table.iloc[kept].query("~is_ntc")
    assert data.guides == tuple(targeting["guide_name"])
    assert data.n_guides_per_gene.tolist() == targeting.groupby("gene_name").size().tolist()


def test_guides_that_only_crowded_cells_carry_count_nowhere(screen_adata, simulated):
    matrix = screen_adata.obsm["guide"].toarray()
    matrix[:, 0] = 0
    matrix[7, :] = 1
    screen_adata.obsm["guide"] = matrix
    with pytest.warns(ScreenWarning):
        screen = read_screen(screen_adata, max_guides_per_cell=matrix.shape[1] - 1)
    assert simulated.guide_map["guide_name"][0] not in screen.guide_names
    assert "cell7" not in screen.cells


def test_unmapped_guides_are_ignored_and_named(screen_adata, simulated):
    table = simulated.guide_map.drop(index=[0, 2])
    with pytest.warns(ScreenWarning, match=r"2 guides are not in the guide map and were ignored: GENE0_g1, "):
        screen = read_screen(screen_adata, guide_map=table)
    assert screen.guide_names.tolist() == table["guide_name"].tolist()
    assert screen.dropped["guides_not_in_map"] == 2


def test_no_ntc_guides_warns(screen_adata, simulated):
    table = simulated.guide_map.query("~is_ntc")
    with pytest.warns(ScreenWarning) as message:
        screen = read_screen(screen_adata, guide_map=table)
    assert any("no cell carries a non-targeting (NTC) guide" in str(w.message) for w in message)
    assert not screen.is_ntc.any()


def test_cells_without_guides_stay(screen_adata):
    matrix = screen_adata.obsm["guide"].toarray()
    matrix[5] = matrix[9] = 0
    screen_adata.obsm["guide"] = matrix
    screen = read_screen(screen_adata)
    assert screen.cells.size == N
    assert np.diff(screen.guides.indptr)[[5, 9]].tolist() == [0, 0]
    assert screen.moi == pytest.approx(matrix.sum() / N)


def test_one_day_one_replicate_two_fates(screen_adata):
    screen_adata.obs["day"], screen_adata.obsm["covar"]["rep"] = "d7", "a"
    fates = screen_adata.obsm["lineages_fwd"]
    screen_adata.obsm["lineages_fwd"] = pd.DataFrame({"X": fates["EC"], "Y": 1 - fates["EC"]})
    data = build_fate_data(read_screen(screen_adata), ref_fate="Y")
    assert (data.n_days, data.n_reps, data.n_free) == (1, 1, 1)


def test_rep_in_covar_goes_before_obs(screen_adata, simulated):
    screen_adata.obs["rep"] = "x"
    assert same(read_screen(screen_adata), simulated)


def test_other_keys(screen_adata, simulated):
    screen_adata.obs["time"] = screen_adata.obs.pop("day")
    screen_adata.obsm["fp"], screen_adata.obsm["g"] = screen_adata.obsm.pop("lineages_fwd"), screen_adata.obsm.pop("guide")
    screen_adata.obsm["cv"] = screen_adata.obsm.pop("covar").rename(columns={"rep": "batch"})
    screen_adata.uns["gn"] = screen_adata.uns.pop("guide_names")
    keys = ScreenKeys(fate="fp", guide="g", day="time", rep="batch", covar="cv", guide_names="gn")
    assert same(read_screen(screen_adata, keys=keys), simulated)


def test_clusters(screen_adata):
    donor = np.where(np.arange(N) % 2 == 0, "p", "q")
    screen_adata.obs["donor"] = pd.Categorical(donor, ["p", "q", "unused"])
    both = read_screen(screen_adata, keys=ScreenKeys(cluster="donor+rep")).clusters
    spaced = read_screen(screen_adata, keys=ScreenKeys(cluster="donor + rep")).clusters
    expected = pd.factorize(pd.Series(donor) + " " + screen_adata.obsm["covar"]["rep"].astype(str).to_numpy(), sort=True)[0]
    assert np.array_equal(both, expected) and np.array_equal(spaced, expected)
    screen_adata.obs["a+b"] = donor
    for key in ("donor", "a+b"):
        assert np.array_equal(read_screen(screen_adata, keys=ScreenKeys(cluster=key)).clusters, (donor == "q").astype(int))
    screen_adata.obs["donor"] = np.where(np.arange(N) == 3, None, donor)
    with pytest.raises(InputError, match=r"obs\['donor'\] is missing in row 3 \(cell3\)"):
        read_screen(screen_adata, keys=ScreenKeys(cluster="donor+rep"))
    with pytest.raises(InputError, match=r"obs\['clone'\] is missing; obs has: .*donor.*keys\.cluster"):
        read_screen(screen_adata, keys=ScreenKeys(cluster="rep+clone"))


def edit(slot: str, key: str, function: Callable[[object], object]) -> Change:
    return put(slot, key, lambda old: function(old.copy()))


def at(position: tuple[int, int], value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype(object) if isinstance(value, str) else frame
        frame.iloc[position] = value
        return frame

    return change


def day_with(value: object) -> Change:
    return put("obs", "day", lambda d: np.array([value, *d.astype(object)[1:]], dtype=object))


def without(slot: str, key: str) -> Change:
    def change(adata: ad.AnnData) -> None:
        del getattr(adata, slot)[key]

    return change


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame], axis=1)


def double_day(adata: ad.AnnData) -> None:
    adata.obs = twice(adata.obs)


def bad_index(adata: ad.AnnData) -> None:
    adata.obsm["guide"].indices[0] = 99


def nullable_na(adata: ad.AnnData) -> None:
    guide_frame("Float64")(adata)
    adata.obsm["guide"].iloc[4, 0] = pd.NA


def drop_fates(adata: ad.AnnData) -> None:
    adata.obsm["lineages_fwd"] = adata.obsm["lineages_fwd"][["EC"]]


WRONG: dict[str, tuple[Change, str]] = {
    "no fates": (without("obsm", "lineages_fwd"), r"obsm\['lineages_fwd'\] is missing; obsm has: covar, guide\. .*keys\.fate"),
    "no guides": (without("obsm", "guide"), r"obsm\['guide'\] is missing; obsm has: covar, lineages_fwd\. .*keys\.guide"),
    "no day": (without("obs", "day"), r"obs\['day'\] is missing; obs has: none\. .*keys\.day"),
    "no rep": (without("obsm", "covar"), r"obs\['rep'\] is missing; obs has: day\. .*keys\.rep"),
    "no guide names": (without("uns", "guide_names"), r"uns\['guide_names'\] is missing; uns has: guide_map, real.*bare matrix.*guide names there"),
    "no map": (without("uns", "guide_map"), r"uns\['guide_map'\] is missing; uns has: guide_names, real_or_simulated\. Give a guide map with guide_map"),
    "bare fates": (lambda a: (bare_fates("x")(a), a.uns.pop("x"), None)[-1], r"uns\['lineages_fwd_names'\] is missing.*put its 3 fate names there"),
    "fate names dict": (bare_fates("fate_names", {"EC": 1}), r"uns\['fate_names'\] is a dict; it must be a list"),
    "fate names few": (bare_fates("fate_names", ["EC", "MES"]), r"shape \(300, 3\) but 2 fate names"),
    "fate name missing": (bare_fates("fate_names", ["EC", None, "NEU"]), r"uns\['fate_names'\] has no name in rows 1"),
    "fate names repeat": (bare_fates("fate_names", ["EC", "EC", "NEU"]), r"repeats a fate name: EC, EC, NEU"),
    "one fate": (drop_fates, r"has 1 fate; at least two"),
    "fates NaN": (edit("obsm", "lineages_fwd", at((3, 1), np.nan)), r"obsm\['lineages_fwd'\] is NaN or infinite in row 3 \(cell3\): .*Drop those cells"),
    "fates NA": (put("obsm", "lineages_fwd", lambda f: at((3, 1), pd.NA)(f.astype("Float64"))), r"is NaN or infinite in row 3 \(cell3\)"),
    "fates negative": (edit("obsm", "lineages_fwd", at((4, 0), -0.1)), r"is negative in row 4 \(cell4\): \[-0\.1"),
    "fates text": (edit("obsm", "lineages_fwd", at((4, 0), "x")), r"obsm\['lineages_fwd'\] is not numeric: .*'x'"),
    "fates complex": (lambda a: bare_fates("fate_names")(a) or put("obsm", "lineages_fwd", lambda f: f + 0j)(a), r"holds complex numbers"),
    "fates sum": (
        edit("obsm", "lineages_fwd", lambda f: f * np.where(np.arange(N) == 8, 1.002, 1)[:, None]),
        r"must sum to 1, but row 8 \(cell8\): 1\.002\. .*divide",
    ),
    "guide NaN": (guide_as(lambda m: np.where(np.arange(N)[:, None] == 2, np.nan, m)), r"NaN, infinite or negative entries in row 2 \(cell2\)\. Give"),
    "guide NA": (nullable_na, r"obsm\['guide'\] holds NaN, infinite or negative entries in row 4 \(cell4\)"),
    "guide negative": (guide_as(lambda m: sp.csr_matrix(-m.astype(int))), r"NaN, infinite or negative entries in row 0 \(cell0\)"),
    "guide text": (guide_as(lambda m: m.astype(str)), r"must be a numeric cells × guides matrix; it has shape .* type <U"),
    "guide complex": (guide_as(lambda m: sp.csr_matrix(m + 0j)), r"must be a numeric .*complex64"),
    "guide cube": (guide_as(lambda m: m[:, :, None]), r"shape \(300, \d+, 1\); it must be cells × guides"),
    "guide index": (bad_index, r"obsm\['guide'\] is not a valid sparse matrix"),
    "guide names few": (put("uns", "guide_names", lambda n: n[:3]), r"uns\['guide_names'\] has 3 names but obsm\['guide'\] has \d+ columns"),
    "guide names repeat": (put("uns", "guide_names", lambda n: [n[1], *n[1:]]), r"guide names repeat: GENE0_g2\. Make them unique"),
    "guide name missing": (put("uns", "guide_names", lambda n: [n[0], None, *n[2:]]), r"uns\['guide_names'\] has no name in rows 1"),
    "guide names dict": (put("uns", "guide_names", lambda n: {"a": 1}), r"uns\['guide_names'\] is a dict"),
    "all crowded": (guide_as(lambda m: np.ones((N, m.shape[1]))), r"every cell carries more than 10 guides .*Raise max_guides_per_cell"),
    "no guide anywhere": (guide_as(np.zeros_like), r"no cell carries a targeting guide \(obsm\['guide'\]\)"),
    "day None": (day_with(None), r"obs\['day'\] is missing in row 0 \(cell0\)\. Fill it"),
    "day two numbers": (day_with("d1_rep2"), r"'d1_rep2' has 2 numbers \(1, 2\).*Use integers"),
    "day underscore": (day_with("1_2"), r"'1_2' has 2 numbers \(1, 2\)"),
    "day list": (put("obs", "day", lambda d: [[1]] * N), r"obs\['day'\] has values that are not labels"),
    "day nullable NA": (put("obs", "day", lambda d: pd.array([pd.NA, *[1] * (N - 1)], dtype="Int64")), r"obs\['day'\] is missing in row 0"),
    "day without cells": (put("obs", "day", lambda d: d.cat.add_categories("d9")), r"obs\['day'\] has no cell for the categories d9.*remove_unused"),
    "day twice": (double_day, r"obs of AnnData has 2 columns 'day'\. Keep one"),
    "rep None": (edit("obsm", "covar", at((6, 0), None)), r"obsm\['covar'\]\['rep'\] is missing in row 6 \(cell6\)"),
    "rep twice": (put("obsm", "covar", twice), r"obsm\['covar'\] has 2 columns 'rep'\. Keep one"),
    "rep list": (put("obsm", "covar", lambda c: pd.DataFrame({"rep": [[1]] * N}, index=c.index)), r"\['rep'\] has values that are not labels"),
    "other names": (put("uns", "guide_map", lambda m: m.assign(guide_name="z" + m["guide_name"])), r"none of the \d+ guides is in the .*the map has zGENE"),
    "map array": (put("uns", "guide_map", lambda m: m.to_numpy()), r"uns\['guide_map'\] is a ndarray; it must be a DataFrame or a dict"),
    "map empty dict": (put("uns", "guide_map", lambda m: {}), r"uns\['guide_map'\] has no rows"),
    "map of lists": (put("uns", "guide_map", lambda m: {"guide_name": list(m["guide_name"])}), r"'guide_map'\] gives no single gene for guide_name"),
    "map gene None": (put("uns", "guide_map", lambda m: {**dict.fromkeys(m["guide_name"], "A"), "GENE0_g1": None}), r"no gene_name .* GENE0_g1"),
    "map gene NaN": (put("uns", "guide_map", lambda m: {**dict.fromkeys(m["guide_name"], "A"), "GENE0_g1": np.nan}), r"no gene_name .* GENE0_g1"),
    "only NTC": (put("uns", "guide_map", lambda m: m[m["is_ntc"]]), r"no cell carries a targeting guide .*4 mapped guides, 4 of them NTC"),
    "names repeat": (lambda a: setattr(a, "obs_names", ["x", "x", *a.obs_names[2:]]), r"obs_names repeat: x\. Call \.obs_names_make_unique"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning", "ignore:Observation names are not unique:UserWarning")
def test_what_is_wrong_is_named(case, screen_adata):
    change, message = WRONG[case]
    change(screen_adata)
    with pytest.raises(InputError, match=message):
        read_screen(screen_adata, max_guides_per_cell=10)


def test_rounded_rows_are_renormalised_aloud(screen_adata, simulated):
    exact = screen_adata.obsm["lineages_fwd"].copy()
    screen_adata.obsm["lineages_fwd"] = exact * np.where(np.arange(N) < 7, 1.0005, 1)[:, None]
    with pytest.warns(ScreenWarning, match=r"obsm\['lineages_fwd'\]: 7 rows sum to 1 only within 5\.0e-04; they were renormalised"):
        screen = read_screen(screen_adata)
    np.testing.assert_allclose(screen.fate_prob, exact.to_numpy(), rtol=1e-12)


@pytest.mark.parametrize("number", [0, -1, None, 2.5])
def test_max_guides_per_cell(number, screen_adata):
    with pytest.raises(InputError, match=rf"max_guides_per_cell is {number}; it must be a whole number, at least 1"):
        read_screen(screen_adata, max_guides_per_cell=number)


def test_no_cells(screen_adata):
    with pytest.raises(InputError, match="the screen AnnData has no cells"):
        read_screen(screen_adata[:0].copy())


def test_views_and_backed_files(screen_adata, simulated, tmp_path):
    assert same(read_screen(screen_adata[np.arange(N)]), simulated)
    screen_adata.write_h5ad(tmp_path / "screen.h5ad")
    backed = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r")
    assert same(read_screen(backed), simulated)
    backed.file.close()


REAL = {
    "papalexi2021_eccite_thp1.h5ad": (16192, 110, 25, 9, {"ifn_high", "ifn_mid", "ifn_low"}, {"MYCg4", "PDL1g1", "PDL1g2", "PDL1g3"}, ["CD274"]),
    "schraivogel2020_tapseq_k562.h5ad": (21052, 86, 14, 30, {"hb_high", "hb_mid", "hb_low"}, set(), []),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::data_prep.errors.ScreenWarning")
def test_real_screens(name, shared: Path):
    path = shared / "data" / name
    n_cells, n_guides, n_genes, n_ntc, fates, no_cells, lost = REAL[name]
    screen = read_screen(path, keys=ScreenKeys(fate="fateprob", guide="guide_assignment"))
    assert screen.guides.shape == (n_cells, n_guides - len(no_cells))
    assert no_cells.isdisjoint(screen.guide_names)
    assert screen.dropped["genes_without_cells"] == lost
    assert int(screen.is_ntc.sum()) == n_ntc
    assert (screen.day_labels, set(screen.fate_names)) == (("0",), fates)
    data = build_fate_data(screen, ref_fate=screen.fate_names[0])
    assert (data.n_guides, data.n_genes) == (n_guides - len(no_cells) - n_ntc, n_genes)
    assert same_from_memory(path, screen)


def same_from_memory(path: Path, screen: Screen) -> bool:
    again = read_screen(ad.read_h5ad(path), keys=ScreenKeys(fate="fateprob", guide="guide_assignment"))
    return fingerprint(again, ref_fate=screen.fate_names[0]) == fingerprint(screen, ref_fate=screen.fate_names[0])


def test_a_zarr_folder_by_another_name(screen_adata, simulated, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        screen_adata.write_zarr(tmp_path / "screen.zarr")
    shutil.move(tmp_path / "screen.zarr", tmp_path / "screen")
    assert same(read_screen(tmp_path / "screen"), simulated)
