"""Print the table of a recorded comparison of suppressors, in Markdown.

``python benchmarks/comparison_table.py compare.json`` prints a row for each suppressor, as
``docs/benchmarks/suppressors.md`` has them. With ``--sweep FIELD`` it prints AP by the values of a
setting, for two files if two are given.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--sweep", metavar="FIELD")
    arguments = parser.parse_args()
    contents = [json.loads(path.read_text()) for path in arguments.files]
    if arguments.sweep:
        print_sweep(contents, arguments.sweep)
        return
    for content in contents:
        print("| suppressor | AP | AP50 | AP75 | APS / M / L | AR1 / 10 / 100 | ms | gain (95 %) |")
        print("|---|---|---|---|---|---|---|---|")
        for row in content["rows"]:
            print_row(row)


def print_row(row: dict[str, Any]) -> None:
    figures = {
        name: "-" if value is None else f"{value:.1f}" for name, value in row["figures"].items()
    }
    sizes = " / ".join(figures[name] for name in ("APS", "APM", "APL"))
    recalls = " / ".join(figures[name] for name in ("AR1", "AR10", "AR100"))
    milliseconds = "-" if row["milliseconds"] is None else f"{row['milliseconds']:.2f}"
    gain = "-" if row["gain"] is None else f"{row['gain']:+.2f}"
    interval = "" if row["low"] is None else f" ({row['low']:+.2f}..{row['high']:+.2f})"
    first = " | ".join(figures[name] for name in ("AP", "AP50", "AP75"))
    print(
        f"| `{row['name']}` | {first} | {sizes} | {recalls} | {milliseconds} | {gain}{interval} |"
    )


def print_sweep(contents: list[dict[str, Any]], field: str) -> None:
    """Print AP of each family by the values of a setting, one AP for each file."""
    found: dict[str, dict[float, list[str]]] = {}
    for content in contents:
        for row in content["rows"]:
            family, _, value = row["name"].rpartition(f":{field}=")
            if family:
                aps = found.setdefault(family, {}).setdefault(float(value), [])
                aps.append(f"{row['figures']['AP']:.1f}")
    values = sorted({value for aps in found.values() for value in aps})
    print(f"| | {' | '.join(f'{value:g}' for value in values)} |")
    print(f"|---{'|---' * len(values)}|")
    for family, aps in found.items():
        print(f"| `{family}` | {' | '.join(' / '.join(aps[value]) for value in values)} |")


if __name__ == "__main__":
    main()
