"""Recipes: the settings of a run, named ones and files. ``postnms recipes show`` prints one."""

from postnms.data.config import DataConfig
from postnms.recipes.config import (
    EvaluationConfig,
    Recipe,
    TrainingConfig,
    override,
    override_trained,
    parse_changes,
)
from postnms.recipes.explained import write_recipe
from postnms.recipes.files import open_recipe, read_recipe_file
from postnms.recipes.named import RECIPES, describe, get_recipe

__all__ = [
    "RECIPES",
    "DataConfig",
    "EvaluationConfig",
    "Recipe",
    "TrainingConfig",
    "describe",
    "get_recipe",
    "open_recipe",
    "override",
    "override_trained",
    "parse_changes",
    "read_recipe_file",
    "write_recipe",
]
