"""The whole inputs, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lost.desk import Whole
from tests.lost.nursery import Nursery


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
