"""Effect of centring: the centred and the uncentred model on three screens with effects on single days, for both posterior families.

python benchmarks/hierarchy_centring.py [seeds]
"""

import sys

import numpy as np
from common import quiet, trial

from hierarchy import summarise

quiet()
seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
print(
    "| posterior | model | false calls, inactive gene-days | missed, active gene-days | RMSE | coverage of 90 % | genes with β offset from θ by > 0.02 | largest offset |"
)
print("|---|---|---|---|---|---|---|---|")
for posterior in ("gene_block", "mean_field"):
    for centred in (True, False):
        rows = []
        for seed in seeds:
            t = trial(seed=seed, posterior=posterior, center_guides=centred)
            mean, sd, theta = t.mean[:, 0], t.sd[:, 0], t.theta[:, 0]  # MES
            called, active = np.abs(mean / sd) > 1.96, theta != 0
            offset = summarise(t.fitted).qc_offset("MES")["offset_mean"].abs()
            inside = np.abs(mean - theta) < 1.6449 * sd
            rows.append(
                [
                    (called & ~active).sum(),
                    (~active).sum(),
                    (~called & active).sum(),
                    active.sum(),
                    np.sqrt(((mean - theta) ** 2).mean()),
                    inside.mean(),
                    (offset > 0.02).sum(),
                    offset.max(),
                ]
            )
        total = np.array(rows, float)
        fp, inactive, missed, n_active = total[:, :4].sum(0).astype(int)
        rmse, coverage, off, largest = np.median(total[:, 4:], 0)
        model = "centred" if centred else "uncentred"
        print(
            f"| `{posterior}` | {model} | {fp} of {inactive} | {missed} of {n_active} | {rmse:.4f} | {coverage:.3f} | {off:.0f} | {largest:.3f} |", flush=True
        )
