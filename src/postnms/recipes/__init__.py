"""Recipes: the settings of a run, and the named ones. ``postnms recipes show NAME`` prints one."""

from postnms.data.config import DataConfig
from postnms.recipes.config import (
    EvaluationConfig,
    Recipe,
    TrainingConfig,
    override,
    parse_changes,
)
from postnms.recipes.named import RECIPES, describe, get_recipe

__all__ = [
    "RECIPES",
    "DataConfig",
    "EvaluationConfig",
    "Recipe",
    "TrainingConfig",
    "describe",
    "get_recipe",
    "override",
    "parse_changes",
]
