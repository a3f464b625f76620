"""The phases of a run: what is trained in each, by which optimizer.

In the first phase detector and stage are trained together, or the stage alone if the recipe freezes
the detector. In the finishing phase the detector is frozen, and the stage alone is trained on.
"""

import logging

from accelerate import Accelerator

from postnms.data.transforms import AugmentationConfig
from postnms.detectors import Detector
from postnms.detectors.frozen import FeatureMemory
from postnms.recipes import Recipe
from postnms.runs.folder import RunFolder
from postnms.training.averaging import WeightAverage
from postnms.training.optimizer import build_optimizer
from postnms.training.state import Trained

logger = logging.getLogger(__name__)


def begin(
    detector: Detector,
    recipe: Recipe,
    augmentation: AugmentationConfig | None,
    folder: RunFolder,
    accelerator: Accelerator,
) -> Trained:
    """Return what is trained, with a new optimizer and a new average of the present weights.

    Args:
        detector: the detector in training mode.
        recipe: all settings of the run.
        augmentation: the changes of the images of this phase. None: there are none.
        folder: the folder of the run, where a memory of a frozen detector may be.
        accelerator: the processes that train together.
    """
    config = recipe.training
    model, optimizer = accelerator.prepare(detector, build_optimizer(detector, config))
    decay = config.average_decay
    average = None if decay is None else WeightAverage(detector, decay)
    # The average is a copy of the detector, which must not copy the memory too.
    detector.memory = feature_memory(detector, recipe, augmentation, folder)
    return Trained(detector, model, optimizer, average)


def finishing(
    trained: Trained, recipe: Recipe, folder: RunFolder, accelerator: Accelerator
) -> Trained:
    """Return what is trained in the finishing phase: the stage on the detector as it is.

    Where the weights are averaged, the phase goes on from the average, since that is what the run
    would have ended with.
    """
    detector = trained.detector
    if trained.average is not None:
        detector.load_state_dict(trained.result.state_dict())
    detector.freeze()
    turns = recipe.data.augmentation.turns
    return begin(detector.train(), recipe, turns, folder, accelerator)


def feature_memory(
    detector: Detector,
    recipe: Recipe,
    augmentation: AugmentationConfig | None,
    folder: RunFolder,
) -> FeatureMemory | None:
    """Return the memory for what a frozen detector gives. None: it would be of no use."""
    config = recipe.training
    if not detector.frozen or config.feature_memory == "none":
        return None
    if augmentation is not None and not augmentation.turns_only:
        logger.warning(
            "training.feature_memory is not in use: data.augmentation changes more than the "
            "orientation of an image, so no image comes twice"
        )
        return None
    most = int(config.feature_memory_gib * 2**30)
    return FeatureMemory(most, folder.root if config.feature_memory == "file" else None)
