"""Option models: config files, precedence, messages about wrong values."""

import json
import math
from pathlib import Path

import pytest
import yaml

from data_prep.errors import InputError
from fatescreen.options.config import read_config
from fatescreen.options.diagnose_null import DiagnoseOptions
from fatescreen.options.fit_hierarchy import FitOptions
from fatescreen.options.run_crt import RunCRTOptions
from fatescreen.options.score_daywise import ScoreOptions
from fatescreen.options.simulate_screen import SimulateOptions

ALL = [SimulateOptions, FitOptions, ScoreOptions, RunCRTOptions, DiagnoseOptions]
LEAST = {"screen": "s.h5ad", "out": "o"}


def test_the_command_line_wins_over_the_file_and_the_file_over_the_default():
    found = FitOptions.of({"seed": "3"}, {**LEAST, "seed": 2, "draws": 10}, source="c.yaml")
    assert (found.seed, found.draws, found.max_guides_per_cell) == (3, 10, 20)


@pytest.mark.parametrize(
    ("options", "config", "message"),
    [
        (FitOptions, {"sed": 1}, "c.yaml: there is no option 'sed'. Did you mean 'seed'?"),
        (FitOptions, {"zzz": 1}, "there is no option 'zzz'. The options are screen, out"),
        (FitOptions, {"seed": -1}, "c.yaml: seed is -1; it must be a whole number, at least 0 and at most 4294967295. The nearest is 0."),
        (FitOptions, {"seed": 2**32}, "The nearest is 4294967295."),
        (FitOptions, {"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        (FitOptions, {"draws": True}, "draws is True; it must be a whole number, at least 2."),
        (FitOptions, {"fate_key": 3}, "fate_key is 3; it must be text."),
        (FitOptions, {"fate_key": False}, "fate_key is False; it must be text."),
        (FitOptions, {"posterior": "gene-block"}, "it must be 'gene_block' or 'mean_field'. Did you mean 'gene_block'?"),
        (FitOptions, {"likelihood_weight": -2}, "likelihood_weight is -2; it must be 'auto', 'common' or a number, above 0."),
        (FitOptions, {"likelihood_weight": "auot"}, "Did you mean 'auto'?"),
        (FitOptions, {"likelihood_weight": float("nan")}, "likelihood_weight is nan"),
        (FitOptions, {"report": "perhaps"}, "report is 'perhaps'; it must be true or false."),
        (FitOptions, {"ntc_labels": [1]}, "ntc_labels is [1]; it must be names, joined by commas or as a list of texts."),
        (FitOptions, {"cluster_key": "clone"}, "--cluster-key is for --se sandwich"),
        (FitOptions, {"se": "sandwich", "posterior": "mean_field"}, "se 'sandwich' requires posterior 'gene_block'"),
        (RunCRTOptions, {"n_bins": 5}, "--n-bins: only with --resampling-method stratified_perm"),
        (RunCRTOptions, {"side": "rigth"}, "Did you mean 'right'?"),
        (DiagnoseOptions, {"simulate": True}, "give one screen"),
        (ScoreOptions, {"level": 1}, "there is no option 'screen'"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(options, config, message):
    with pytest.raises(InputError) as error:
        options.of({}, {**LEAST, **config}, source="c.yaml")
    assert message in str(error.value)


def test_a_missing_option_and_several_wrong_ones_are_all_reported():
    with pytest.raises(InputError) as error:
        RunCRTOptions.of({"n_jobs": "0"})
    assert sorted(str(error.value).splitlines(), reverse=True) == [
        "SCREEN is missing: screen: a .h5ad, .h5mu or .zarr file.",
        "--out is missing: folder for the results.",
        "--n-jobs is '0'; it must be a whole number, at least 1. The nearest is 1.",
    ]


def test_names_come_as_text_or_as_a_list():
    for given in ("A, B,", ["A", "B"]):
        assert RunCRTOptions.of({}, {**LEAST, "targets": given}).targets == ("A", "B")


@pytest.mark.parametrize("options", ALL)
def test_the_record_of_a_run_is_a_config_that_repeats_it(options, tmp_path):
    needed = {name: "x" for name, one in options.model_fields.items() if one.is_required()} | ({"simulate": True} if options is DiagnoseOptions else {})
    first = options.of(needed)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"command": "c", "options": first.plain()}))
    again = options.of({}, read_config(path, "c"), source=str(path))
    assert again.plain() == first.plain()
    with pytest.raises(InputError, match="is the record of c, not of d"):
        read_config(path, "d")


@pytest.mark.parametrize("options", ALL)
def test_every_option_is_described_and_no_default_is_out_of_range(options):
    for name, one in options.model_fields.items():
        assert one.description, name
        if one.default is not None and not one.is_required():
            defaults = {n: o.default for n, o in options.model_fields.items() if n == name}
            try:
                options.of({}, defaults, source="d")
            except InputError as error:
                assert f"{name} is" not in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not YAML"),
        ("- a\n- b\n", "holds a list; it must hold options"),
        ("n-jobs: 2\nn_jobs: 3\n", "n_jobs appears more than once"),
        ("x: !!python/object/apply:os.system ['touch hacked']\n", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_config_file_that_is_none(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(path, "fit-hierarchy")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("+12", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("1.", 1.0),
        ("~", None),
        ("", None),
        ("True", True),
        ("1:30", "1:30"),
        ("NO", "NO"),
        ("on", "on"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("'1'", "1"),
    ],
)
def test_a_config_file_is_yaml_1_2(tmp_path, text, value):
    """By the core schema; PyYAML alone reads YAML 1.1, where some of these are octal, sexagesimal, false or a date."""
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: {text}\n")
    found = read_config(path, "fit-hierarchy")["seed"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("options", "given", "name"),
    [
        (RunCRTOptions, {**LEAST, "method": "resample", "n_resamples": 2**62}, "4,611,686,018,427,387,904 resamples"),
        (DiagnoseOptions, {**LEAST, "method": "resample", "n_resamples": 2**62}, "resamples"),
        (SimulateOptions, {"out": "o", "cells": 10**15}, "1,000,000,000,000,000 cells"),
        (SimulateOptions, {"out": "o", "genes": 10**15}, "guides"),
    ],
)
def test_a_size_beyond_memory_is_refused_with_the_options(options, given, name):
    with pytest.raises(InputError, match=f"{name} would take at least [0-9,]+ GiB of memory; this machine has") as error:
        found = options.of(given)
        assert isinstance(found, SimulateOptions)
        found.design()
    assert "Option" in str(error.value) or error.value.arguments


def test_a_config_file_may_be_empty_or_have_dashes(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert read_config(path, "run-crt") == {}
    path.write_text(yaml.safe_dump({"n-jobs": 2}))
    assert read_config(path, "run-crt") == {"n_jobs": 2}
    with pytest.raises(InputError, match="does not exist"):
        read_config(Path("none.yaml"), "run-crt")
