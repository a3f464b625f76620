"""The schedule of a run in iterations: how long it is, its learning rates, and its intervals."""

import math
from dataclasses import dataclass
from typing import Literal

from postnms.recipes import TrainingConfig
from postnms.recipes.lengths import in_iterations


@dataclass(frozen=True)
class Schedule:
    """The lengths of a run, all in iterations, and its learning rate in each iteration.

    Example:
        >>> from postnms.recipes import TrainingConfig
        >>> config = TrainingConfig(
        ...     iterations=5, lr=1.0, warmup_iterations=2, warmup_factor=0.5, steps=(3,), gamma=0.5
        ... )
        >>> [schedule_of(config, per_epoch=5).learning_rate(i) for i in range(5)]
        [0.5, 0.75, 1.0, 0.5, 0.5]
    """

    per_epoch: int
    """Number of iterations of an epoch."""
    iterations: int
    """Number of iterations of the whole run, those of a finishing phase included."""
    log_every: int
    checkpoint_every: int
    evaluate_every: int
    kind: Literal["steps", "cosine"]
    base: float
    """The learning rate after warm-up."""
    warmup: int
    """Number of iterations in which the rate rises linearly to ``base``. 0: no warm-up."""
    warmup_factor: float
    """Share of ``base`` that iteration 0 has."""
    steps: tuple[int, ...]
    """Iterations from which on the rate is multiplied by ``gamma``, once for each."""
    gamma: float
    final_factor: float
    """Share of ``base`` that a cosine ends with."""
    finishing: int
    """Number of iterations of the finishing phase, the last ones of the run. 0: no such phase."""
    finish_base: float
    """The learning rate that the finishing phase begins with."""

    @property
    def joint(self) -> int:
        """Number of iterations before the finishing phase."""
        return self.iterations - self.finishing

    def learning_rate(self, iteration: int) -> float:
        """Return the learning rate of the detector in an iteration, which is counted from 0.

        A cosine falls from ``base``, in the first iteration after warm-up, to ``final_factor`` of
        it, after the last one (arXiv 1608.03983, Eq. 5, without restarts). In the finishing phase
        it falls from ``finish_base`` to 0.
        """
        if self.finishing and iteration >= self.joint:
            return self.finish_base * _cosine((iteration - self.joint) / self.finishing)
        share = min(iteration / self.warmup, 1.0) if self.warmup else 1.0
        rate = self.base * (self.warmup_factor * (1 - share) + share)
        rate *= self.gamma ** sum(iteration >= step for step in self.steps)
        if self.kind == "steps":
            return rate
        length = max(self.joint - self.warmup, 1)
        share = _cosine(min(max(iteration - self.warmup, 0) / length, 1.0))
        return rate * (self.final_factor + (1 - self.final_factor) * share)

    def is_evaluated(self, finished: int) -> bool:
        """Return whether the detector is evaluated after so many iterations, before the last.

        It is evaluated before the finishing phase too, so that the log tells what the phase brings.
        """
        is_due = finished % self.evaluate_every == 0 or finished == self.joint
        return is_due and finished < self.iterations

    def is_saved(self, finished: int) -> bool:
        """Return whether a checkpoint is written after so many iterations."""
        return finished % self.checkpoint_every == 0 or finished == self.iterations


def _cosine(progress: float) -> float:
    """Return half a cosine wave, which falls from 1 at ``progress`` 0 to 0 at ``progress`` 1."""
    return (1 + math.cos(math.pi * progress)) / 2


def schedule_of(config: TrainingConfig, per_epoch: int) -> Schedule:
    """Return the schedule of a run. ``per_epoch`` is the number of iterations of an epoch."""
    finishing = in_iterations(config.finish_iterations, per_epoch)
    return Schedule(
        per_epoch=per_epoch,
        iterations=in_iterations(config.iterations, per_epoch) + finishing,
        log_every=config.log_every,
        checkpoint_every=in_iterations(config.checkpoint_every, per_epoch),
        evaluate_every=in_iterations(config.evaluate_every, per_epoch),
        kind=config.schedule,
        base=config.lr,
        warmup=in_iterations(config.warmup_iterations, per_epoch),
        warmup_factor=config.warmup_factor,
        steps=tuple(in_iterations(step, per_epoch) for step in config.steps),
        gamma=config.gamma,
        final_factor=config.final_lr_factor,
        finishing=finishing,
        finish_base=config.lr if config.finish_lr is None else config.finish_lr,
    )
