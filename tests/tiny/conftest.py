"""What several tests of models need: a second tiny model, and an adapter for the first."""

import pytest

from tests.tiny.adapters import make_adapter
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    """The same architecture with other weights."""
    return make_tiny_model(tmp_path_factory.mktemp("other-model"), seed=1)


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return make_adapter(tiny_model, tmp_path_factory.mktemp("adapter"))
