"""Guide maps in the columns of SCEPTRE and Cell Ranger."""

import pandas as pd
import pytest

from data_prep.errors import InputError, ScreenWarning
from data_prep.read.guide_map import GuideMap

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
        (SCEPTRE.replace("grna_target", "target"), r"has no column 'guide_name'; it has: grna_id, target.*SCEPTRE's grna_id and grna_target; or Cell Ranger"),
        (SCEPTRE + "g3,A\n", "line 5 has 2 fields but the header has 4"),
    ],
)
def test_wrong_maps(text, message, tmp_path):
    path = tmp_path / "map.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        GuideMap.from_file(path)
