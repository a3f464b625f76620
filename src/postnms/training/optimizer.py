"""The optimizer and its learning rate."""

from collections.abc import Sequence

from torch.optim import SGD, AdamW, Optimizer

from postnms.detectors import Detector
from postnms.recipes import TrainingConfig


def build_optimizer(detector: Detector, config: TrainingConfig) -> Optimizer:
    """SGD with momentum or AdamW over the trained parameters; the stage is a group with a rate of its own."""
    trained = [
        (name.startswith("stage."), p) for name, p in detector.named_parameters() if p.requires_grad
    ]
    groups = [
        {"params": [p for of_stage, p in trained if not of_stage], "factor": 1.0},
        {"params": [p for of_stage, p in trained if of_stage], "factor": config.stage_lr_factor},
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, config.lr, weight_decay=config.weight_decay)
    return SGD(groups, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: Optimizer, iteration: int, config: TrainingConfig) -> float:
    """Set the rates of an iteration; returns the detector's."""
    rate = learning_rate(
        iteration,
        config.lr,
        config.warmup_iterations,
        config.warmup_factor,
        config.steps,
        config.gamma,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


def learning_rate(
    iteration: int,
    base: float,
    warmup: int,
    warmup_factor: float,
    steps: Sequence[int],
    gamma: float,
) -> float:
    """Rate of the given iteration, counted from 0. ``steps``: iterations at which it is multiplied by gamma."""
    share = min(iteration / warmup, 1.0) if warmup else 1.0
    return (
        base
        * (warmup_factor * (1 - share) + share)
        * gamma ** sum(iteration >= step for step in steps)
    )
