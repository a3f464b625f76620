"""The optimizer of a detector, and the schedule of its learning rate."""

from collections.abc import Sequence

from torch.optim import SGD, AdamW, Optimizer

from postnms.detectors import Detector
from postnms.recipes import TrainingConfig


def build_optimizer(detector: Detector, config: TrainingConfig) -> Optimizer:
    """Return SGD with momentum, or AdamW, for all parameters that require a gradient.

    The parameters of the detector are the first group, those of the stage the second. The
    entry ``factor`` of a group multiplies its learning rate.
    """
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
    """Set the learning rate of each group for an iteration, which is counted from 0.

    Returns the rate of the detector.
    """
    rate = configured_rate(iteration, config)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


def configured_rate(iteration: int, config: TrainingConfig) -> float:
    """Return the learning rate of the detector in an iteration, which is counted from 0."""
    return learning_rate(
        iteration,
        config.lr,
        config.warmup_iterations,
        config.warmup_factor,
        config.steps,
        config.gamma,
    )


def learning_rate(
    iteration: int,
    base: float,
    warmup: int,
    warmup_factor: float,
    steps: Sequence[int],
    gamma: float,
) -> float:
    """Return the learning rate of an iteration.

    Args:
        iteration: the iteration, counted from 0.
        base: the rate after warm-up.
        warmup: number of iterations in which the rate rises linearly to ``base``. 0: no warm-up.
        warmup_factor: share of ``base`` that iteration 0 has.
        steps: iterations from which on the rate is multiplied by ``gamma``, once for each.
        gamma: the factor of a step.

    Example:
        >>> from postnms.training.optimizer import learning_rate
        >>> [learning_rate(i, 1.0, 2, 0.5, (3,), 0.5) for i in range(5)]
        [0.5, 0.75, 1.0, 0.5, 0.5]
    """
    share = min(iteration / warmup, 1.0) if warmup else 1.0
    return (
        base
        * (warmup_factor * (1 - share) + share)
        * gamma ** sum(iteration >= step for step in steps)
    )
