"""Effect of burden bins: calibration of NTC groups if treatment depends on the burden within batches and propensity bins.

    python benchmarks/null_burden.py [seeds=10] [figure]

Each screen has 6,000 cells, 10 programs, 40 genes with 3 guides, 60 NTC guides (20 groups of 3 in each of 4 partitions) and MOI 6; B = 999. NTC guides are
more frequent in cells with low or high burden, and outcomes depend on the same nonlinear function of the burden. The burden is a covariate, so its linear
part is in the propensity and in the regression; the nonlinear part is in neither. Intervals are over screens.
"""

import sys
from pathlib import Path

import crt_common
import numpy as np
from matplotlib.figure import Figure
from null_screens import BURDEN, Plan, bent, make

from crt import crt_pvals_for_ntc_groups_ensemble, make_ntc_groups_ensemble, qq_plot

BINS = {"n_bins": 4, "burden_key": BURDEN, "n_burden_bins": 16, "burden_bin_method": "uniform"}
RUNS = (
    ("Bernoulli", "bernoulli_index", {}),
    ("permuted, no burden bins", "stratified_perm", {}),
    ("permuted, 8 burden bins (default)", "stratified_perm", {"burden_key": BURDEN}),
    ("permuted, 16 burden bins of equal width", "stratified_perm", BINS),
)
PLAN = Plan(
    cells=6000,
    programs=10,
    genes=40,
    ntc_guides=60,
    moi=6.0,
    ntc_tilt=lambda z, batch, burden, j: np.exp(0.35 * bent(burden)),
    curve=lambda z, batch, burden: 0.15 * bent(burden),
)


def main(seeds: int, figure: Path) -> None:
    """Print one row per sampler and write the figure."""
    found: dict[str, list[np.ndarray]] = {label: [] for label, _, _ in RUNS}
    for seed in range(seeds):
        inputs = make(PLAN, seed)
        ensemble = make_ntc_groups_ensemble(inputs, n_ensemble=4, group_size=3)
        for label, method, options in RUNS:
            p = crt_pvals_for_ntc_groups_ensemble(inputs, ensemble, group_size=3, B=999, resampling_method=method, resampling_kwargs=options)
            found[label].append(p.to_numpy().ravel())
    rows = []
    for label, p in found.items():
        cells = []
        for level in (0.05, 0.01):
            share = np.array([(one <= level).mean() for one in p])
            cells.append(f"{share.mean():.4f} ± {1.96 * share.std(ddof=1) / np.sqrt(seeds):.4f}")
        rows.append([label, *cells, f"{np.quantile(np.concatenate(p), 0.01):.4f}"])
    crt_common.table(f"NTC groups, {seeds} screens, {found[RUNS[0][0]][0].size:,} tests each", ["sampler", "p ≤ 0.05", "p ≤ 0.01", "1 % quantile of p"], rows)
    axes = Figure(figsize=(5.5, 5.5), layout="constrained").subplots()
    qq_plot({label: np.concatenate(p) for label, p in found.items()}, ax=axes, title="NTC groups, treatment depends on the burden", floor=1 / 1000)
    axes.figure.savefig(figure, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int((arguments + ["10"])[0]), Path(arguments[1]) if len(arguments) > 1 else Path(__file__).parent / "figures" / "null_burden.png")
