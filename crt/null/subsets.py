"""Random subsets of the control cells, tested where the NTC guides are too few: they have no effect whatever the guides do."""

from dataclasses import replace

import numpy as np
from scipy.sparse import csc_matrix

from crt.inputs import CRTInputs
from crt.null.groups import Groups
from crt.sampling.streams import unit_seed

N_SUBSETS = 100


def control_subsets(inputs: CRTInputs, *, n_treated: int, seed: int) -> tuple[CRTInputs, Groups]:
    """The screen with random subsets of its control cells as its only guides, and the subsets as units.

    Parameters
    ----------
    inputs
        Screen.
    n_treated
        Number of cells of a subset; at most half of the control cells.
    seed
        Random seed.
    """
    rng = np.random.default_rng(unit_seed(seed, "subsets", purpose="random subsets of the control cells"))
    cells = inputs.all_cells if inputs.control_group == "complement" else inputs.ntc_cells
    size = max(1, min(n_treated, cells.size // 2))
    chosen = [np.sort(rng.choice(cells, size, replace=False)) for _ in range(N_SUBSETS)]
    shape, starts = (inputs.all_cells.size, N_SUBSETS), np.arange(N_SUBSETS + 1) * size
    guides = csc_matrix((np.ones(size * N_SUBSETS), np.concatenate(chosen), starts), shape=shape)
    names = np.array([f"subset_{i:03d}" for i in range(N_SUBSETS)], dtype=object)
    screen = replace(inputs, guides=guides, guide_names=names, guide2gene={}, gene_to_cols={}, ntc_cols=np.arange(N_SUBSETS))
    return screen, {str(name): np.array([i]) for i, name in enumerate(names)}
