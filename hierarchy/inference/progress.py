"""The progress bar of a fit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from hierarchy.settings import FitSettings


@contextmanager
def progress_bar(shown: bool, settings: FitSettings, done: int, unit: str) -> Iterator[Callable[[int, float], None]]:
    """A progress bar with the ELBO, silent unless asked for and on a terminal; yields a function of the step and its ELBO.

    Parameters
    ----------
    shown
        Whether a bar is wanted.
    settings
        For the maximum number of steps.
    done
        Steps taken already.
    unit
        Name of the steps.
    """
    with tqdm(total=settings.max_steps, initial=done, unit=f" {unit}", disable=None if shown else True) as bar:

        def show(step: int, elbo: float) -> None:
            bar.set_postfix(ELBO=f"{elbo:,.1f}", refresh=False)
            bar.update(step - bar.n)

        yield show
