"""Recipes: the config of a run, and the named ones. ``postnms recipes show NAME`` prints one whole."""

from postnms.recipes.config import DataConfig, EvaluationConfig, Recipe, TrainingConfig, override
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
]
