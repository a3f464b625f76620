"""The optimizer of a detector."""

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


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of each group: that of the detector, times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
