"""The documents of the project, and the Python examples in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]


def examples(page):
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def run_examples(page):
    """Run the Python blocks of a page one after another, and return the names they leave."""
    names = {}
    for block in examples(page):
        exec(compile(block, str(page), "exec"), names)
    return names
