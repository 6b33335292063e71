"""Write tests/golden/crt_default.csv: `python -m tests.crt.make_golden` from the root of the repository."""

import json

import pandas as pd

from crt import make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from tests import ROOT

GOLDEN = ROOT / "tests" / "golden"
SCREEN = {"N": 1200, "K": 4, "n_target_genes": 5, "guides_per_gene": 2, "moi_mean": 2.5, "frac_causal_genes": 0.4, "n_effect_programs": 1, "seed": 11}


def golden_table() -> pd.DataFrame:
    """Every default of `run_all_genes_union_crt`, with the skew-normal p-values too."""
    return run_all_genes_union_crt(prepare_crt_inputs(make_sceptre_style_synth(**SCREEN)), return_skew_normal=True).table


if __name__ == "__main__":
    golden_table().to_csv(GOLDEN / "crt_default.csv", index=False, float_format="%.12g")
    (GOLDEN / "crt_default.json").write_text(json.dumps({"made_by": "python -m tests.crt.make_golden", "screen": SCREEN}, indent=1) + "\n")
