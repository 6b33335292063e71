"""From an argument of the library to the option that sets it: messages of the library name arguments, commands show options."""

from collections.abc import Iterable

from pydantic import BaseModel

from fatescreen.options.describe import describe

FIELDS = {  # arguments whose option has another name; an argument `keys.x` is the option --x-key
    "adata": "screen",
    "source": "screen",
    "B": "n_resamples",
    "base_seed": "seed",
    "calibrate_skew_normal": "skew_normal",
    "checkpoint": "resume",
    "confound_strength": "confounding",
    "fate": "contrast_fate",
    "genes": "targets",
    "guide_assignment_key": "guide_key",
    "K": "programs",
    "N": "cells",
    "n_cells": "cells",
    "n_days": "days",
    "n_draws": "draws",
    "n_genes": "genes",
    "n_ntc_guides": "ntc_guides",
    "n_reps": "reps",
    "n_target_genes": "genes",
    "out_dir": "out",
    "time_scale": "day_gaps",
}


def option_names(arguments: Iterable[str], options: type[BaseModel]) -> list[str]:
    """Names of the options of a command that set these arguments of the library; an argument that no option sets is left out."""
    described = describe(options)
    names = []
    for argument in arguments:
        key = f"{argument.removeprefix('keys.')}_key" if argument.startswith("keys.") else argument
        field = FIELDS.get(key) if FIELDS.get(key) in described else key
        if field in described:
            option = described[field]
            switched_off = option.kinds == ["boolean"] and option.default != "no"  # a switch that is on, or on by itself
            names.append(option.name.replace("--", "--no-", 1) if switched_off else option.name)
    return list(dict.fromkeys(names))


def with_options(message: str, arguments: Iterable[str], options: type[BaseModel]) -> str:
    """A message of the library, followed by the options of a command that set the arguments it names."""
    names = option_names(arguments, options)
    return f"{message} Option{'s' if len(names) > 1 else ''}: {', '.join(names)}." if names else message
