"""Imports only go down the floors of the architecture."""

import ast
import subprocess
import sys
from pathlib import Path

import postnms

SOURCE = Path(postnms.__file__).parent
FLOORS = [
    {"errors", "config", "files", "tensor_stream", "structures", "boxes", "collectives", "state_dicts"},
    {"ops"},
    {"suppression", "clustering", "matching", "losses", "schedule", "drawing"},
    {"stage", "bootstrap", "coco_matching"},
    {"detectors", "evaluation"},
    {"data", "checkpoints", "candidate_files", "analysis"},
    {"recipes", "coco_results", "replay"},
    {"processes", "splits"},
    {"runs", "truths", "comparison"},
    {"inference", "reporting", "dumping", "analysing"},
    {"training", "pictures", "plots", "speed"},
    {"verbs", "candidate_verbs", "speed_verbs", "cli", "__main__", "__init__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "postnms":
            parts = node.module.split(".")[1:]
            yield from [parts[0]] if parts else [alias.name for alias in node.names]


def test_imports_only_go_down():
    for path in SOURCE.rglob("*.py"):
        relative = path.relative_to(SOURCE)
        own = relative.parts[0].removesuffix(".py")
        for name in imported(path):
            if name in FLOOR:
                assert FLOOR[name] <= FLOOR[own], f"{relative} imports {name}"


def test_every_module_has_a_floor():
    names = {p.name.removesuffix(".py") for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert names <= FLOOR.keys()


def test_importing_is_light():
    """What only some verbs need is imported by those; on the way in numba alone would take a second."""
    heavy = "[m for m in ('numba', 'accelerate', 'faster_coco_eval', 'tensorboard', 'matplotlib') if m in sys.modules]"
    code = f"import sys, postnms, postnms.cli; print({heavy})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
