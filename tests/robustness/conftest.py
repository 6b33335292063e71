"""The whole inputs, made once."""

from collections.abc import Iterator

import pytest

from tests.robustness.inputs import Whole
from tests.robustness.processes import Nursery


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Inputs with nothing wrong and a finished run of every command; leave them as they are."""
    return Whole.at(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Commands as processes of their own, without the imports."""
    warm = Nursery()
    yield warm
    warm.close()
