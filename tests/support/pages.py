"""The documents of the project, and the Python examples in them."""

import re
import shlex
from pathlib import Path

from handbook.notebook import cells_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
NOTEBOOKS = sorted(ROOT.glob("docs/**/*.ipynb"))
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


def commands(page):
    """Return the words of each line of a page that calls ``postnms``, in blocks of any kind."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S):
        lines = [] if language == "python" else block.replace("\\\n", " ").splitlines()
        calls = [call for line in lines for call in line.removeprefix("$ ").split(" && ")]
        found += [shlex.split(call, comments=True) for call in calls if call.startswith("postnms ")]
    return found


def notebook_commands(path):
    """Return the words of each command line of a notebook."""
    lines = "\n".join(text for kind, text in cells_of(path) if kind == "code")
    lines = lines.replace("\\\n", " ").splitlines()
    return [shlex.split(line[1:], comments=True) for line in lines if line.startswith("!")]


def mentioned(page):
    """Return the calls of ``postnms`` within the sentences of a page, which may be incomplete."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return [call.split() for call in re.findall(r"`(postnms [a-z][^`]*)`", prose)]
