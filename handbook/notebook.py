"""``python -m handbook.notebook``: run the notebooks of the documents, each in an empty folder.

A cell that fails ends it, and so does a command line of a cell. The notebooks stay as they are:
they are stored without outputs. ``--show`` prints the outputs. ``pages()`` gives them as pages of
the site.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
CHECK = "\nassert not globals().get('_exit_code'), 'a command line has failed'"
"""What a cell with command lines ends with when it runs: IPython goes on after a failed one."""
SECONDS = 300
"""A cell that takes longer has failed."""


def notebooks() -> list[Path]:
    """Return the notebooks of the documents."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def cells_of(path: Path) -> list[tuple[str, str]]:
    """Return the kind, ``markdown`` or ``code``, and the text of each cell."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in content["cells"]]


def pages() -> dict[str, str]:
    """Return each notebook as Markdown by the path of its page under the documents."""
    made = {}
    for path in notebooks():
        parts = [
            text if kind == "markdown" else f"```python\n{text}\n```"
            for kind, text in cells_of(path)
        ]
        parts.insert(1, f"[Download the notebook]({path.name})")
        made[f"notebooks/{path.stem}.md"] = "\n\n".join(parts) + "\n"
    return made


def run(path: Path, folder: Path) -> Any:
    """Run a notebook in a folder, and return it with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("!"):
            lines = [f"{line}{CHECK}" for line in _commands(cell.source)]
            cell.source = "\n".join(lines)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    return notebook


def _commands(source: str) -> list[str]:
    """Return the command lines of a cell, each of which may be several lines of text."""
    return [f"!{part}".rstrip() for part in source.removeprefix("!").split("\n!")]


def main() -> None:
    """Run all notebooks with the ``postnms`` of this environment."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for path in notebooks():
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(path, Path(folder))
        if "--show" in sys.argv:
            for cell in notebook.cells:
                for output in cell.get("outputs", ()):
                    print(output.get("text") or output.get("data", {}).get("text/plain", ""))
        print(f"{path.name}: {len(notebook.cells)} cells, {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
