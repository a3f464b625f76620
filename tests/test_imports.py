"""Imports only go down the floors of the house, files never import each other in a circle, and importing is light."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import postnms

SOURCE = Path(postnms.__file__).parent
FLOORS = [
    {"errors", "boxes", "structures"},
    {"config", "distributed", "files"},
    {"drawing", "ops", "data"},
    {"clustering", "evaluation"},
    {"suppression", "stage", "speed"},
    {"detectors"},
    {"inference", "recipes", "candidate_files"},
    {"runs", "analysis"},
    {"training"},
    {"cli"},
    {"__init__", "__main__"},
]
TO_MEND = {
    ("candidate_files.truth", "recipes"),
    ("data.splits", "recipes"),
    ("inference.evaluate", "recipes"),
    ("inference.image_files", "runs.folder"),
    ("inference.image_files", "runs.loading"),
    ("inference.pictures", "recipes"),
}
"""Arrows that still run up."""
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules():
    """Path of every source file by its dotted name."""
    named = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(path, known):
    """Dotted names of the files that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "postnms"
        ):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "postnms")


def room(name):
    return name.split(".")[1] if "." in name else "__init__"


def test_imports_only_go_down():
    known = modules()
    for name, path in known.items():
        for other in imported(path, known):
            if (name.removeprefix("postnms."), other.removeprefix("postnms.")) in TO_MEND:
                continue
            assert room(other) == room(name) or FLOOR[room(other)] < FLOOR[room(name)], (
                f"{name} imports {other}"
            )


def test_no_file_is_in_a_circle_of_imports():
    known = modules()
    TopologicalSorter({name: set(imported(path, known)) for name, path in known.items()}).prepare()


def test_every_module_has_a_floor():
    assert {room(name) for name in modules()} == FLOOR.keys()


def test_importing_is_light():
    """What only some verbs need is imported by those; on the way in numba alone would take a second."""
    heavy = "[m for m in ('numba', 'accelerate', 'faster_coco_eval', 'tensorboard', 'matplotlib') if m in sys.modules]"
    code = f"import sys, postnms, postnms.cli; print({heavy})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
