"""The study that tests of this folder share."""

import pytest

from tests.support.studies import small_study


@pytest.fixture
def study(tmp_path):
    """Return candidates of five images and their truth, which lie in ``tmp_path``."""
    return small_study(tmp_path)
