"""Guide maps in the columns of SCEPTRE and Cell Ranger."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError, ScreenWarning
from data_prep.read.guide_map import GENE_NAMES, GUIDE_NAMES, GuideMap
from data_prep.read.keys import ScreenKeys
from data_prep.read.screen import read_screen

SCEPTRE = "grna_id,grna_target,chr,start\ng1,GENEA,chr1,5\ng2,enh_7,chr2,9\nn1,non-targeting,,\n"
CELL_RANGER = """id,name,read,pattern,sequence,feature_type,target_gene_id,target_gene_name
CD3,CD3,R2,^NNNNNNNNNN(BC),AACAAGACCCTTGAG,Antibody Capture,,
g1,GENEA guide 1,R2,(BC)GTTTAAGAGCTAAGCTGGAA,GCC,CRISPR Guide Capture,ENSG1,GENEA
g2,GENEB guide 1,R2,(BC)GTTTAAGAGCTAAGCTGGAA,GCA,CRISPR Guide Capture,ENSG2,GENEB
n1,NON_TARGET-1,R2,(BC)GTTTAAGAGCTAAGCTGGAA,AAC,CRISPR Guide Capture,Non-Targeting,Non-Targeting
"""


def rows(found: GuideMap) -> list[tuple[str, str, bool]]:
    return list(zip(found.guide, found.gene, found.is_ntc.tolist(), strict=True))


def test_forms(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text(SCEPTRE)
    assert rows(GuideMap.from_file(path)) == [("g1", "GENEA", False), ("g2", "enh_7", False), ("n1", "non-targeting", True)]
    assert rows(GuideMap.from_frame(pd.read_csv(path))) == rows(GuideMap.from_file(path))
    path.write_text(CELL_RANGER)
    expected = [("g1", "GENEA", False), ("g2", "GENEB", False), ("n1", "Non-Targeting", True)]
    assert rows(GuideMap.from_file(path)) == expected == rows(GuideMap.from_frame(pd.read_csv(path)))
    assert rows(GuideMap.from_file(path, ntc_labels=("GENEB",)))[1:] == [("g2", "GENEB", True), ("n1", "Non-Targeting", True)]


def test_ignored_guides_are_reported(tmp_path):
    path = tmp_path / "feature_reference.csv"
    path.write_text(CELL_RANGER.replace("ENSG2,GENEB", "Ignore,Ignore"))
    with pytest.warns(ScreenWarning, match="1 guides have the target 'Ignore' and were left out: g2"):
        assert [guide for guide, _, _ in rows(GuideMap.from_file(path))] == ["g1", "n1"]


@pytest.mark.parametrize("label", ["Non-Targeting", "NON-TARGETING", "ntc", "Safe-Targeting"])
def test_labels_in_any_case(label):
    assert GuideMap.from_mapping({"a": "A", "n": label}).is_ntc.tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL_RANGER.replace("CRISPR Guide", "Gene"), "has no row of the feature_type 'CRISPR Guide Capture', but Antibody Capture, Gene Capture"),
        (CELL_RANGER.replace("ENSG2,GENEB", ","), "no gene_name for the targeting guides g2"),
        (CELL_RANGER.replace("g2,", "g1,"), "maps a guide to two genes: g1 → GENEA, GENEB"),
        (SCEPTRE.replace("chr,", "grna_id,"), "has 2 columns 'grna_id'. Keep one"),
        (SCEPTRE.replace("grna_target", "aim"), r"has no column 'gene_name'; it has: guide_name, aim.*SCEPTRE's grna_id and grna_target; or Cell Ranger"),
        (SCEPTRE + "g3,A\n", "line 5 has 2 fields but the header has 4"),
    ],
)
def test_wrong_maps(text, message, tmp_path):
    path = tmp_path / "map.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        GuideMap.from_file(path)


@pytest.mark.parametrize("header", ["gRNA,target", "sgRNA,gene", "guide,target_gene", "GUIDE_ID,Gene", "target,extra,sgrna_id"])
def test_usual_names_of_the_columns(header, tmp_path):
    names = header.split(",")
    rows = {name: ["A_g1", "n1"] if name.lower() in GUIDE_NAMES else ["A", "non-targeting"] if name.lower() in GENE_NAMES else [1, 2] for name in names}
    pd.DataFrame(rows).to_csv(tmp_path / "map.csv", index=False)
    found = GuideMap.from_file(tmp_path / "map.csv")
    assert found.guide.tolist() == ["A_g1", "n1"] and found.gene.tolist() == ["A", "non-targeting"] and found.is_ntc.tolist() == [False, True]


def test_two_columns_that_may_be_the_gene(tmp_path):
    with pytest.raises(InputError, match="has 2 columns that may be gene_name: gene, target. Rename the one to use to gene_name"):
        GuideMap.from_frame(pd.DataFrame({"guide": ["g"], "gene": ["A"], "target": ["chr1"]}))


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_targets_of_a_modality(screen_adata, tmp_path, on_disk):
    """MuData whose guides have a column `target` in var, and no map in uns."""
    mudata = pytest.importorskip("mudata")
    table = screen_adata.uns["guide_map"].set_index("guide_name")
    guides = ad.AnnData(screen_adata.obsm["guide"], obs=screen_adata.obs[[]], var=table[["gene_name"]].rename(columns={"gene_name": "target"}))
    cells = ad.AnnData(obs=screen_adata.obs, obsm={key: screen_adata.obsm[key] for key in ("lineages_fwd", "covar")})
    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"cells": cells, "gRNA": guides})
        if on_disk:
            both.write(tmp_path / "screen.h5mu")
    screen = read_screen(tmp_path / "screen.h5mu" if on_disk else both, keys=ScreenKeys(guide="gRNA"))
    assert np.array_equal(screen.guide_gene, table.loc[screen.guide_names, "gene_name"])
