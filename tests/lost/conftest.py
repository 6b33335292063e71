"""The whole inputs, made once."""

from pathlib import Path

import pytest

from tests.lost.desk import Whole


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Inputs with nothing wrong and a finished run of every command; leave them as they are."""
    return Whole.at(tmp_path_factory.mktemp("whole"))
