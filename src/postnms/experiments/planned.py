"""One run of an experiment, and the files that are made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from postnms.recipes import Recipe
from postnms.runs.folder import RunFolder


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment."""

    arm: str
    seed: int
    folder: RunFolder
    base: Recipe
    """The recipe without changes."""
    recipe: Recipe
    """The recipe with all changes, as ``postnms train`` makes it from :attr:`words`."""
    words: tuple[str, ...]
    """The command line that trains the run, without the program."""
    after: Path | None
    """Folder of the run that it starts from. None: it starts from no run of the experiment."""
    evaluations: Mapping[str, Recipe] = field(default_factory=dict)
    """By name, the recipes with which the run is evaluated again."""

    @property
    def name(self) -> str:
        """The name of the run within the experiment."""
        return self.folder.root.name

    @property
    def log(self) -> Path:
        """File with what the commands of the run print."""
        return self._beside(".log")

    @property
    def candidates(self) -> Path:
        """File of the candidates of the run, which suppressors are replayed on."""
        return self._beside(".safetensors")

    @property
    def train_candidates(self) -> Path:
        """File of the candidates of the train split, which rescorers are trained on."""
        return self._beside("_train.safetensors")

    @property
    def compared(self) -> Path:
        """Folder with the comparison of the suppressors."""
        return self._beside("_compared")

    def evaluated(self, name: str) -> Path:
        """Return the file of the candidates and rows of an evaluation."""
        return self._beside(f"_with_{name}.safetensors")

    def rescorer(self, name: str) -> Path:
        """Return the file of a rescorer."""
        return self._beside(f"_{name}_rescorer.safetensors")

    def rescored(self, name: str) -> Path:
        """Return the file of the candidates with the row of a rescorer."""
        return self._beside(f"_{name}_rescored.safetensors")

    def _beside(self, ending: str) -> Path:
        return self.folder.root.with_name(self.name + ending)
