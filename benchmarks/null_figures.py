"""QQ plots of the measurements page: two real screens, and a million p-values.

python benchmarks/null_figures.py FOLDER_OF_SCREENS [out=benchmarks/figures]
"""

import sys
import time
from pathlib import Path

import crt_common
import numpy as np
from matplotlib.figure import Figure

from crt import UnitSettings, diagnose_null, prepare_crt_inputs, qq_plot, qq_plot_ntc_pvals
from fatescreen.runs.null_files import text_lines

SCREENS = (("papalexi", "papalexi2021_eccite_thp1"), ("schraivogel", "schraivogel2020_tapseq_k562"))


def main(folder: Path, out: Path) -> None:
    """Write one figure per screen, print its rates and verdict, then plot a million p-values."""
    for short, name in SCREENS:
        inputs = prepare_crt_inputs(folder / f"{name}.h5ad", control_group="ntc_cells")
        found = diagnose_null(inputs, UnitSettings(seed=0), group_size=4)
        figure = Figure(figsize=(11, 5.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        members = [rows.to_numpy() for _, rows in found.ntc_raw.groupby(level="ensemble")]
        qq_plot_ntc_pvals(found.real_raw, found.ntc_raw, found.ntc_skew, ensemble=members, ax=left, title=f"{short}: genes and NTC groups", floor=1 / 1024)
        both = {"fitted propensity": found.ntc_raw, "constant propensity": found.oracle_raw}
        qq_plot(both, ax=right, band_n=members[0].size, title=f"{short}: NTC groups, empirical", floor=1 / 1024)
        figure.savefig(out / f"null_{short}.png", dpi=90, metadata={"Software": None})
        lines = text_lines(found)
        print(
            f"\n{name}\n",
            *(
                line
                for line in lines
                if line.startswith(("curve", "real_raw", "real_skew", "ntc_raw", "ntc_skew", "ntc_oracle", "no cause", "inconclusive", "verdict"))
            ),
            sep="\n",
        )
    rng = np.random.default_rng(0)
    p = rng.random(1_000_000)
    curves = {"uniform": p, "inflated": p**1.15, "conservative": p**0.85, "on a grid of 1/1024": np.ceil(p * 1024) / 1024}
    start = time.process_time()
    axes = qq_plot(curves, title="Four curves of a million p-values", floor=1 / 1024)
    axes.figure.savefig(out / "null_million.png", dpi=90, metadata={"Software": None})
    crt_common.table("four curves of a million p-values", ["step", "CPU seconds"], [["qq_plot and savefig", time.process_time() - start]])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "figures")
