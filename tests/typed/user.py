"""What a user writes, with types: `mypy --strict` accepts it (`make lint`), and tests/test_api.py runs it."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

import crt
import data_prep
import hierarchy


def effects_of(adata: AnnData, out: Path) -> pd.DataFrame:
    """Both halves of the hierarchy: fit, check, write."""
    screen: data_prep.Screen = data_prep.read_screen(adata, keys=data_prep.ScreenKeys(), max_guides_per_cell=20)
    data: data_prep.FateData = data_prep.build_fate_data(screen, ref_fate="EC")
    settings = hierarchy.FitSettings(likelihood_weight="auto", seed=1)
    fitted: hierarchy.Fit = hierarchy.fit(data.to(hierarchy.choose_device("cpu")), priors=hierarchy.Priors(tau=2.0), settings=settings)
    effects: hierarchy.DaywiseEffects = hierarchy.summarise(fitted)
    hierarchy.check_centred(effects, simulated=screen.simulated)
    paths: list[Path] = hierarchy.write_effects(effects, out, contrast_fate="MES")
    checks: hierarchy.Checks = hierarchy.check_fit(fitted, n_top=3)
    hierarchy.write_checks(fitted, checks, out)
    assert paths and isinstance(fitted.posterior, hierarchy.GeneBlock | hierarchy.MeanField)
    return effects.gene_table("MES")


def tests_of(adata: AnnData, out: Path) -> pd.DataFrame:
    """The test and the diagnosis of its null."""
    burden: pd.Series = crt.add_burden_covariate(adata)
    inputs: crt.CRTInputs = crt.prepare_crt_inputs(adata, control_group="complement")
    options = {"n_bins": 5, "stratify_by_batch": True, "burden_key": str(burden.name)}
    result: crt.CRTResult = crt.run_all_genes_union_crt(inputs, B=99, resampling_method="stratified_perm", resampling_kwargs=options)
    one: crt.UnitResult = crt.run_one_gene_union_crt(inputs.genes[0], inputs, B=99, propensity_mode=share)
    found: crt.NullDiagnostics = crt.diagnose_null(inputs, crt.UnitSettings(n_resamples=99, sampler=crt.BernoulliIndex()), group_size=2, n_ensemble=1)
    crt.write_diagnostics(out, found)
    crt.store_results_in_adata(adata, result)
    label: str = found.verdict.label
    print(one.name, label, [finding.next_step for finding in found.verdict.findings])
    return result.table


def share(treated: np.ndarray, design: np.ndarray) -> np.ndarray:
    """A propensity of one's own: the share treated, for every cell."""
    return np.full(len(design), treated.size / len(design))


def main(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """On simulated screens; input that can't be used is an InputError."""
    try:
        data_prep.ScreenDesign(n_cells=0)
    except data_prep.InputError as error:
        print(error)
    simulated: data_prep.SimulatedScreen = data_prep.simulate_fate_screen(data_prep.ScreenDesign(n_cells=800, n_genes=5, n_days=2), seed=1)
    usage = crt.make_sceptre_style_synth(N=600, K=4, n_target_genes=6, guides_per_gene=2, seed=1)
    return effects_of(simulated.adata, out), tests_of(usage, out)


if __name__ == "__main__":
    main(Path("results/typed"))
