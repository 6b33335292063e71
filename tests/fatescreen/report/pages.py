"""Reports of all kinds from small screens with hostile names."""

from crt import CRTInputs, make_sceptre_style_synth, prepare_crt_inputs, run_all_genes_union_crt
from crt.null.diagnostics import diagnose_null
from crt.settings import UnitSettings
from data_prep import ScreenDesign, build_fate_data, read_screen, simulate_fate_screen
from data_prep.screen import Screen
from fatescreen.report.crt_report import crt_report
from fatescreen.report.fit_report import fit_report
from fatescreen.report.hits_report import hits_report
from fatescreen.report.null_report import null_report
from hierarchy import Fit, FitSettings, call_hits, fit, hit_estimates, summarise
from hierarchy.predictive_checks import check_fit
from hierarchy.self_check import Controls

HOSTILE = "</script><img src=x onerror=alert(1)>"
LONG = "Ärger_β-基因_" + "x" * 150
NAMES = {"GENE00": HOSTILE, "GENE01": LONG, "GENE02": '"><svg onload=alert(2)>'}
RECORD = {"command": "test", "options": {"path": "/a/" + "y" * 200}, "versions": {"fatescreen": "9"}, "warnings": [HOSTILE, "second"]}


def fitted_screen() -> tuple[Screen, Fit]:
    adata = simulate_fate_screen(ScreenDesign(n_cells=900, n_genes=40, guides_per_gene=2, n_ntc_guides=4, n_days=3, moi=4.0), seed=3).adata
    adata.uns["guide_map"]["gene_name"] = adata.uns["guide_map"]["gene_name"].replace(NAMES)
    screen = read_screen(adata)
    fitted = fit(build_fate_data(screen, ref_fate="EC"), settings=FitSettings(seed=1))
    return screen, fitted


def fit_text(screen: Screen, fitted: Fit) -> str:
    return fit_report(screen=screen, fit=fitted, effects=summarise(fitted), checks=check_fit(fitted), controls=Controls(), contrast_fate="MES", record=RECORD)


def hits_text(fitted: Fit) -> str:
    return hits_report([call_hits(hit_estimates(fitted, name), covariances="canonical") for name in ("MES", "NEU:MES")], RECORD)


def crt_inputs() -> CRTInputs:
    adata = make_sceptre_style_synth(N=1200, K=6, n_target_genes=30, guides_per_gene=2, moi_mean=4.0, effect_size=2.0, seed=1)
    genes = sorted(set(adata.uns["guide2gene"].values()) - {"non-targeting"})
    renamed = dict(zip(genes, NAMES.values(), strict=False))
    adata.uns["guide2gene"] = {guide: renamed.get(gene, gene) for guide, gene in adata.uns["guide2gene"].items()}
    return prepare_crt_inputs(adata)


def crt_text(inputs: CRTInputs) -> str:
    return crt_report(inputs=inputs, result=run_all_genes_union_crt(inputs, B=99, calibrate_skew_normal=True), record=RECORD)


def null_text(inputs: CRTInputs) -> str:
    found = diagnose_null(inputs, UnitSettings(n_resamples=99), group_size=2, n_ensemble=3)
    return null_report(inputs=inputs, found=found, null=None, record=RECORD)


def texts() -> dict[str, str]:
    """Kind of report → HTML."""
    inputs, screen_and_fit = crt_inputs(), fitted_screen()
    return {"fit": fit_text(*screen_and_fit), "hits": hits_text(screen_and_fit[1]), "crt": crt_text(inputs), "null": null_text(inputs)}
