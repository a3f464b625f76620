"""Imports go down the floors of the house, never in a circle, and importing stays light."""

import subprocess
import sys
from graphlib import TopologicalSorter

from tests.support.source import SOURCE, imported, modules

FLOORS = [
    {"devices"},
    {"errors", "boxes", "orders"},
    {"checks"},
    {"structures"},
    {"config", "distributed", "files"},
    {"drawing", "ops", "data"},
    {"clustering", "evaluation"},
    {"suppression"},
    {"stage", "rivals"},
    {"speed", "detectors"},
    {"inference", "recipes", "candidate_files"},
    {"runs", "analysis", "rescoring", "viewers"},
    {"prediction", "report"},
    {"training", "export"},
    {"experiments"},
    {"cli"},
    {"__init__", "__main__"},
]
"""Rooms from the lowest floor to the highest. A room may import its own files and lower floors."""
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
HEAVY = ("torch", "numpy", "numba", "pydantic", "accelerate", "faster_coco_eval", "matplotlib")


def room(name):
    return name.split(".")[1] if "." in name else "__init__"


def test_imports_only_go_down():
    known = modules()
    for name, path in known.items():
        for other in imported(path, known):
            is_inside = room(other) == room(name)
            assert is_inside or FLOOR[room(other)] < FLOOR[room(name)], f"{name} imports {other}"


def test_no_file_is_in_a_circle_of_imports():
    known = modules()
    TopologicalSorter({name: imported(path, known) for name, path in known.items()}).prepare()


def test_every_room_has_a_floor():
    assert {room(name) for name in modules()} == FLOOR.keys()


def test_the_root_is_small_and_no_folder_has_one_file():
    root = {path.name for path in SOURCE.iterdir() if path.is_file()}
    names = {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}
    assert root - names == {
        f"{name}.py" for name in set.union(*FLOORS[:4], {"config", "clustering"})
    }
    for folder in {path.parent for path in SOURCE.rglob("*.py")} - {SOURCE}:
        files = [path for path in folder.iterdir() if path.suffix == ".py"]
        folders = [path for path in folder.iterdir() if (path / "__init__.py").is_file()]
        assert (folder / "__init__.py").is_file(), folder
        assert len(files) + len(folders) > 2, folder


def test_importing_is_light():
    """The command line imports what a verb needs when that verb runs."""
    code = f"import sys, postnms, postnms.cli; print([m for m in {HEAVY} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_an_evaluation_does_not_load_what_images_and_networks_need():
    code = (
        "import sys, postnms.evaluation, postnms.evaluation.metrics\n"
        "assert 'torch' in sys.modules\n"
        "print([m for m in ('torchvision', 'accelerate', 'pydantic') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
