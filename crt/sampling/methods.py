"""The samplers by name."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from crt.sampling.bernoulli import BernoulliIndex
from crt.sampling.stratified import StratifiedPermutation
from data_prep.errors import InputError, first_few

ResamplingMethod = Literal["bernoulli_index", "stratified_perm"]
Sampler = BernoulliIndex | StratifiedPermutation
SAMPLERS: dict[str, type[BernoulliIndex] | type[StratifiedPermutation]] = {"bernoulli_index": BernoulliIndex, "stratified_perm": StratifiedPermutation}


def make_sampler(method: str, options: Mapping[str, Any] | None = None) -> Sampler:
    """The settings `SAMPLERS[method](**options)`; an unknown name is an error that lists the known ones."""
    if method not in SAMPLERS:
        raise InputError(f"resampling_method is {method!r}; choose {' or '.join(map(repr, SAMPLERS))}.", "resampling_method")
    options = dict(options or {})
    known = [f.name for f in fields(SAMPLERS[method])]
    if unknown := [name for name in options if name not in known]:
        raise InputError(
            f"{method} has no option {first_few(unknown)} in resampling_kwargs; its options are: {', '.join(known) or 'none'}.", "resampling_method"
        )
    return SAMPLERS[method](**options)
