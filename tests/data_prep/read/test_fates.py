"""Fates as CellRank leaves them, in memory and in files."""

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.read.screen import ScreenKeys, read_screen
from data_prep.tensors import fingerprint

FATES = ["EC", "MES", "NEU"]


class Lineage(np.ndarray):
    """As CellRank's: names to index with, two dimensions whatever is taken, and its values plainly as `.X`."""

    def __new__(cls, values, names):
        made = np.asarray(values).view(cls)
        made._names = np.array(names)
        return made

    def __array_finalize__(self, other):
        self._names = getattr(other, "_names", None)

    def __getitem__(self, item):
        taken = np.asarray(self)[item]
        return taken.reshape(-1, self.shape[1]).view(type(self)) if taken.size % self.shape[1] == 0 else taken

    def sum(self, *args, **kwargs):
        raise NotImplementedError("a Lineage is no array to calculate with")

    @property
    def names(self):
        return self._names

    @property
    def X(self):
        return np.asarray(self)


def states(adata, names=FATES, key="term_states_fwd"):
    """Terminal states of a few cells, as `set_terminal_states` has them."""
    labels = np.full(adata.n_obs, None, dtype=object)
    labels[: 2 * len(names)] = np.repeat(names, 2)
    adata.obs[key] = pd.Categorical(labels, categories=names)


def bare(adata, key="lineages_fwd"):
    adata.obsm[key] = adata.obsm.pop("lineages_fwd").to_numpy()


def test_lineage_in_memory(screen_adata, simulated):
    screen_adata.obsm["lineages_fwd"] = Lineage(screen_adata.obsm["lineages_fwd"].to_numpy(), FATES)
    assert fingerprint(read_screen(screen_adata), ref_fate="EC") == fingerprint(read_screen(simulated.adata), ref_fate="EC")


@pytest.mark.parametrize(("key", "column"), [("lineages_fwd", "term_states_fwd"), ("lineages_bwd", "term_states_bwd"), ("lineages_bwd", "init_states_bwd")])
@pytest.mark.parametrize("kind", [None, "h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")
def test_lineage_in_a_file(kind, key, column, screen_adata, simulated, tmp_path):
    bare(screen_adata, key)
    states(screen_adata, key=column)
    source = screen_adata
    if kind is not None:
        source = tmp_path / f"screen.{kind}"
        getattr(screen_adata, f"write_{kind}")(source)
    found = read_screen(source, keys=ScreenKeys(fate=key))
    assert fingerprint(found, ref_fate="EC") == fingerprint(read_screen(simulated.adata), ref_fate="EC")


def test_states_that_name_no_columns(screen_adata):
    bare(screen_adata)
    states(screen_adata, FATES[:2])
    with pytest.raises(InputError, match=r"has 3 columns, but obs\['term_states_fwd'\].*has 2 categories \(EC, MES\).*uns\['lineages_fwd_names'\]"):
        read_screen(screen_adata)
    screen_adata.obs["term_states_fwd"] = screen_adata.obs["term_states_fwd"].astype(object)
    with pytest.raises(InputError, match=r"uns\['lineages_fwd_names'\] is missing.*bare array"):
        read_screen(screen_adata)
    states(screen_adata)
    screen_adata.obsm["my_fwd"] = screen_adata.obsm["lineages_fwd"]  # not CellRank's, so the states need not be its columns
    with pytest.raises(InputError, match=r"uns\['my_fwd_names'\] is missing"):
        read_screen(screen_adata, keys=ScreenKeys(fate="my_fwd"))
    screen_adata.uns["lineages_fwd_names"] = ["x", "y", "z"]  # the user's names come first
    assert read_screen(screen_adata).fate_names == ("x", "y", "z")
