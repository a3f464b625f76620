"""``python -m tests.package``: build the sdist and the wheel, and use the wheel from elsewhere.

``--release FOLDER`` puts both into a new or an empty folder, if everything is right and the
changelog has the day of this version.

No network is needed. The wheel is built from the sdist, so the sdist is complete. It is installed
alone into an empty folder, and the other packages are those of this environment.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = ("src", "tests", "docs", "benchmarks", "handbook", ".ci", ".github")
PROJECT += ("*.md", "*.toml", "*.yml", "*.cff", "*.in")
PROJECT += ("LICENSE", "Makefile", ".pre-commit-config.yaml")
"""Files and folders of the project that are built from."""
IN_SDIST = (
    "CITATION.cff",
    "LICENSE",
    "README.md",
    "docs/training.md",
    "docs/scene.png",
    "tests/test_imports.py",
    "tests/support/oracles.py",
    "benchmarks/suppressors.py",
    ".github/workflows/ci.yml",
    "handbook/hooks.py",
    "mkdocs.yml",
    "src/postnms/__init__.pyi",
    "src/postnms/data/__init__.pyi",
    "src/postnms/experiments/paper/table1.yaml",
    "src/postnms/py.typed",
    "src/postnms/report/page_files/page.html",
)
"""Files that the sdist must have, one of each kind."""
USE = """\
import importlib, pkgutil, sys
from pathlib import Path
import postnms
root = Path(postnms.__file__).parent
assert root.is_relative_to(sys.argv[1]), root
assert postnms.__version__ == sys.argv[2], postnms.__version__
assert all((root / name).is_file() for name in ("py.typed", "__init__.pyi", "data/__init__.pyi"))
assert (root / "report" / "page_files" / "viewer.js").is_file()
from postnms.experiments.paper.experiments import reproduction
assert len(reproduction("table3").table.rows) == 11
for module in pkgutil.walk_packages([str(root)], "postnms."):
    if not module.name.endswith("__main__") and "triton" not in module.name:
        importlib.import_module(module.name)
print(postnms.__version__, postnms.get_recipe("demo").training.iterations)
"""


def run(what, *words, **options):
    """Run Python with some words, and show what it prints only if it fails."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stdout}\n{done.stderr}")
    print(f"{what}: ok")


def copy_project(tree):
    """Copy the project without what earlier builds left, which would lend its list of files."""
    tree.mkdir()
    for path in (path for pattern in PROJECT for path in ROOT.glob(pattern)):
        if path.is_dir():
            built = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(path, tree / path.name, ignore=built)
        else:
            shutil.copy(path, tree)


def check_release(folder):
    """Refuse a folder with files, and a changelog without the day of the version."""
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder}: expected a new or an empty folder; remove what is in it")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heading = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if not heading or not re.fullmatch(
        rf"{re.escape(version)} \(\d{{4}}-\d{{2}}-\d{{2}}\)", heading[1]
    ):
        raise SystemExit(f"CHANGELOG.md: expected '## {version} (YYYY-MM-DD)' as first heading")


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.package", description=__doc__)
    parser.add_argument("--release", type=Path, metavar="FOLDER", help="where to put both files")
    release = parser.parse_args().release
    if release is not None:
        check_release(release)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tree, dist, target = work / "tree", work / "dist", work / "target"
        copy_project(tree)
        run("build", "-m", "build", "--no-isolation", "--outdir", dist, tree)
        (sdist,) = dist.glob("*.tar.gz")
        (wheel,) = dist.glob("*.whl")
        run("twine check", "-m", "twine", "check", "--strict", sdist, wheel)
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        missing = [name for name in IN_SDIST if name not in names]
        if missing:
            raise SystemExit(f"{sdist.name}: {', '.join(missing)} missing")
        options = ("--quiet", "--no-deps", "--no-index", "--target", target)
        run("install", "-m", "pip", "install", *options, wheel)
        alone = {**os.environ, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
        run("import", "-c", USE, target, wheel.name.split("-")[1], cwd=work, env=alone)
        run("command line", "-m", "postnms", "--version", cwd=work, env=alone)
        if release is not None:
            release.mkdir(parents=True, exist_ok=True)
            for file in (sdist, wheel):
                print(shutil.copy(file, release))


if __name__ == "__main__":
    main()
