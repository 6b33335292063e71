"""Valid inputs and a server of processes, made once."""

from collections.abc import Iterator

import pytest

from tests.robustness.inputs import ValidInputs
from tests.robustness.processes import ForkServer


@pytest.fixture(scope="session")
def valid_inputs(tmp_path_factory: pytest.TempPathFactory) -> ValidInputs:
    """Valid inputs and a finished run of every command; do not change them."""
    return ValidInputs.create(tmp_path_factory.mktemp("valid"))


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Commands as separate processes that need no imports."""
    server = ForkServer()
    yield server
    server.close()
