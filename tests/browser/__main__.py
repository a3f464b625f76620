"""``python -m tests.browser``: the report in a real browser, which ``make test`` does not need.

It says what is missing, and fails, where there is no browser. Screenshots are left in
``build/browser``, to be looked at.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tests.browser.chromium import BROWSERS, DRIVERS, find

MODULES = {"selenium": "pip install '.[browser]'", "jinja2": "pip install '.[report]'"}


def missing():
    """Say what is needed and not there, and how to get it."""
    lines = [
        f"no {name}: {how}"
        for name, how in MODULES.items()
        if importlib.util.find_spec(name) is None
    ]
    if find(BROWSERS) is None:
        lines.append(f"no browser ({' or '.join(BROWSERS)}): apt-get install chromium")
    if find(DRIVERS) is None:
        lines.append(f"no driver ({' or '.join(DRIVERS)}): apt-get install chromium-driver")
    return lines


def main():
    if lines := missing():
        print("test-browser cannot run:", *lines, sep="\n  ", file=sys.stderr)
        return 1
    shots = Path("build/browser")
    shutil.rmtree(shots, ignore_errors=True)
    file = Path(__file__).with_name("check_report.py")
    status = pytest.main(["-p", "no:xdist", "-s", str(file)])
    print(f"screenshots in {shots}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
