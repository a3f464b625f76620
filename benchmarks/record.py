"""Record a run for ``docs/results``: what was run, on what, and the figures of every row.

python benchmarks/record.py RUN_FOLDER docs/results/NAME.json [--note TEXT]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from postnms.evaluation.metrics import show
from postnms.files.atomic import write_json
from postnms.runs.folder import RunFolder

ABOUT = ("command", "processes", "commit", "version", "torch", "machine", "seed", "data")


def about(path: Path) -> dict[str, Any]:
    """Where figures come from, and how a run was resumed; without what is of one machine only."""
    content = json.loads(path.read_text())
    first, *later = [
        {name: part[name] for name in ABOUT} for part in (content, *content.get("resumed", []))
    ]
    return {**first, "resumed": later} if later else first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--note", help="what a reader must know beside the figures")
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run)
    metrics = json.loads(folder.metrics.read_text())
    record = about(folder.provenance)
    if folder.evaluation.is_file():  # the figures are not those that training ended with
        record["evaluation"] = about(folder.evaluation)
    record["rows"] = {row: figures for row, figures in metrics.items() if row != "gain"}
    if "gain" in metrics:
        record["gain"] = metrics["gain"]
    if arguments.note:
        record["note"] = arguments.note
    write_json(arguments.out, record)
    shown = [f"{row} AP {show(figures['AP'], 2)}" for row, figures in record["rows"].items()]
    print(f"{arguments.out}: {', '.join(shown)}")


if __name__ == "__main__":
    main()
