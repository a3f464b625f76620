"""The examples in the docstrings of the library run and print what they say."""

import doctest
import importlib

import pytest

from tests.support.source import modules

WITH_EXAMPLES = sorted(name for name, path in modules().items() if ">>> " in path.read_text())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_give_what_they_say(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0
