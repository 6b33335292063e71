"""Arguments that messages of the libraries name, and the options that set them."""

import ast

import pytest

from fatescreen.options.arguments import FIELDS, option_names, with_options
from fatescreen.options.diagnose_null import DiagnoseOptions
from fatescreen.options.fit_hierarchy import FitOptions
from fatescreen.options.run_crt import RunCRTOptions
from fatescreen.options.score_daywise import ScoreOptions
from fatescreen.options.simulate_screen import SimulateOptions
from tests import ROOT

MODELS = [FitOptions, RunCRTOptions, DiagnoseOptions, ScoreOptions, SimulateOptions]
FIRST = {"InputError": 1, "ScreenWarning": 1, "warn": 1, "missing_key": 4}  # position of the first argument name in a call
PYTHON_ONLY = {  # arguments that no option sets
    "V", "batch_cells", "betahat", "count", "covariances", "day_weights", "eps_quantile", "grid", "key", "moi_mean", "n_contrasts", "n_control",
    "n_effect_programs", "n_treated", "ntc_frac_guides", "null_weight", "penalty", "se", "threshold", "weights",
}  # fmt: skip


def named():
    """(file:line, argument) for every argument that a message of the libraries names."""
    for package in ("data_prep", "hierarchy", "crt"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
                if called in FIRST:
                    texts = [arg.value for arg in node.args[FIRST[called] :] if isinstance(arg, ast.Constant)]
                    yield from ((f"{path.relative_to(ROOT)}:{node.lineno}", text) for text in texts if isinstance(text, str))


def test_every_argument_that_a_message_names_has_an_option():
    lost = [f"{place} {argument}" for place, argument in named() if argument not in PYTHON_ONLY and not any(option_names([argument], m) for m in MODELS)]
    assert not lost, lost


def test_every_other_name_leads_to_an_option():
    fields = {name for model in MODELS for name in model.model_fields}
    assert set(FIELDS.values()) <= fields
    assert not {argument for argument in FIELDS if argument in fields and argument != "genes"}  # "genes" is a number of genes in a simulation


@pytest.mark.parametrize(
    ("arguments", "options", "names"),
    [
        (("covar_key",), RunCRTOptions, ["--covar-key"]),
        (("guide_assignment_key", "B", "base_seed"), RunCRTOptions, ["--guide-key", "--n-resamples", "--seed"]),
        (("keys.fate", "keys.guide_names", "fate"), FitOptions, ["--fate-key", "--guide-names-key", "--contrast-fate"]),
        (("genes",), DiagnoseOptions, ["--targets"]),
        (("out_dir", "resume", "adaptive"), RunCRTOptions, ["--out", "--no-resume", "--adaptive"]),
        (("n_genes", "genes"), SimulateOptions, ["--genes"]),
        (("adata", "screen"), FitOptions, ["SCREEN"]),
        (("covar_key",), SimulateOptions, []),
    ],
)
def test_options_of_arguments(arguments, options, names):
    assert option_names(arguments, options) == names


def test_a_message_and_its_options():
    assert with_options("Wrong.", ("covar_key",), RunCRTOptions) == "Wrong. Option: --covar-key."
    assert with_options("Wrong.", ("guides", "guide_map"), RunCRTOptions) == "Wrong. Options: --guides, --guide-map."
    assert with_options("Wrong.", ("nothing",), RunCRTOptions) == with_options("Wrong.", (), RunCRTOptions) == "Wrong."
