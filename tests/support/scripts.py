"""The scripts of ``benchmarks`` as modules."""

import importlib.util

from tests.support.pages import ROOT


def load_script(path):
    """Return the module of a file, whose path is relative to the project."""
    spec = importlib.util.spec_from_file_location(
        path.split("/")[-1].removesuffix(".py"), ROOT / path
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
