"""Record a run for ``docs/results``: its provenance, and the figures of every row.

python benchmarks/record.py RUN_FOLDER docs/results/NAME.json [--note TEXT]
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from postnms.evaluation.metrics import show
from postnms.evaluation.results import Evaluation
from postnms.files.atomic import write_json
from postnms.runs.folder import RunFolder

ABOUT = ("command", "processes", "commit", "version", "torch", "machine", "seed", "data")
"""Fields of a provenance that are recorded. Paths of one machine are not."""


def about(path: Path) -> dict[str, Any]:
    """Return the provenance in a file, with one more entry for each time the run was resumed."""
    content = json.loads(path.read_text())
    first, *later = [
        {name: part[name] for name in ABOUT} for part in (content, *content.get("resumed", []))
    ]
    return {**first, "resumed": later} if later else first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--note", help="a remark that a reader needs beside the figures")
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run)
    evaluation = Evaluation.from_json(json.loads(folder.metrics.read_text()))
    record = about(folder.provenance)
    # The file exists if the figures are not those at the end of the training.
    if folder.evaluation.is_file():
        record["evaluation"] = about(folder.evaluation)
    record["rows"] = evaluation.rows
    if evaluation.gains:
        record["gains"] = {row: dataclasses.asdict(gain) for row, gain in evaluation.gains.items()}
    if arguments.note:
        record["note"] = arguments.note
    write_json(arguments.out, record)
    shown = [f"{row} AP {show(figures['AP'], 2)}" for row, figures in evaluation.rows.items()]
    print(f"{arguments.out}: {', '.join(shown)}")


if __name__ == "__main__":
    main()
