"""The named recipes: the paper's Table 1 on COCO, and small ones for small data sets on a CPU.

The paper does not say which ResNeXt-101 it used; here it is the 32x8d, of which torchvision has ImageNet weights.
``--set detector.backbone.name=resnext101_64x4d`` and ``resnext101_32x4d`` are the others.
"""

import inspect
from collections.abc import Callable, Sequence

from postnms.config import nearest
from postnms.data.config import DataConfig
from postnms.data.scenes.generator import ScenesConfig
from postnms.detectors import (
    BackboneConfig,
    CascadeRCNNConfig,
    DetectorConfig,
    FasterRCNNConfig,
    RetinaNetConfig,
)
from postnms.detectors.config import BackboneName
from postnms.errors import UserError
from postnms.recipes.config import Recipe, TrainingConfig, override
from postnms.stage import StageConfig


def faster_rcnn_r50_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN R50-FPN on COCO (Table 1: test-dev 38.4, +1.9 AP; val 37.0 for NMS, 38.6 for post-NMS).

    accelerate launch -m postnms train faster_rcnn_r50_fpn_1x --data coco --out runs/r50
    About a day on 8 GPUs of 2019. Not yet run here.
    """
    return _on_coco("faster_rcnn_r50_fpn_1x", FasterRCNNConfig(backbone=_imagenet("resnet50")))


def faster_rcnn_r101_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN R101-FPN on COCO (Table 1: test-dev 40.6, +1.7 AP).

    accelerate launch -m postnms train faster_rcnn_r101_fpn_1x --data coco --out runs/r101
    Not yet run here.
    """
    return _on_coco("faster_rcnn_r101_fpn_1x", FasterRCNNConfig(backbone=_imagenet("resnet101")))


def faster_rcnn_x101_fpn_1x() -> Recipe:
    """The paper's Faster R-CNN X101-FPN on COCO (Table 1: test-dev 42.5, +1.5 AP).

    accelerate launch -m postnms train faster_rcnn_x101_fpn_1x --data coco --out runs/x101
    Not yet run here.
    """
    return _on_coco(
        "faster_rcnn_x101_fpn_1x", FasterRCNNConfig(backbone=_imagenet("resnext101_32x8d"))
    )


def retinanet_r50_fpn_1x() -> Recipe:
    """The paper's RetinaNet R50-FPN on COCO (Table 1: test-dev 37.2, +1.3 AP).

    accelerate launch -m postnms train retinanet_r50_fpn_1x --data coco --out runs/retina50
    The rate is the paper's 0.02; 0.01 is more usual for RetinaNet. Not yet run here.
    """
    return _on_coco("retinanet_r50_fpn_1x", RetinaNetConfig(backbone=_imagenet("resnet50")))


def retinanet_r101_fpn_1x() -> Recipe:
    """The paper's RetinaNet R101-FPN on COCO (Table 1: test-dev 38.9, +1.3 AP).

    accelerate launch -m postnms train retinanet_r101_fpn_1x --data coco --out runs/retina101
    Not yet run here.
    """
    return _on_coco("retinanet_r101_fpn_1x", RetinaNetConfig(backbone=_imagenet("resnet101")))


def retinanet_x101_fpn_1x() -> Recipe:
    """The paper's RetinaNet X101-FPN on COCO (Table 1: test-dev 40.2, +1.2 AP).

    accelerate launch -m postnms train retinanet_x101_fpn_1x --data coco --out runs/retinax101
    Not yet run here.
    """
    return _on_coco(
        "retinanet_x101_fpn_1x", RetinaNetConfig(backbone=_imagenet("resnext101_32x8d"))
    )


def cascade_rcnn_r101_fpn_1x() -> Recipe:
    """The paper's Cascade R-CNN R101-FPN on COCO, scores of head "(3)" (Table 1: test-dev 42.9, +0.8 AP).

    accelerate launch -m postnms train cascade_rcnn_r101_fpn_1x --data coco --out runs/cascade
    Not yet run here.
    """
    return _on_coco("cascade_rcnn_r101_fpn_1x", CascadeRCNNConfig(backbone=_imagenet("resnet101")))


def cascade_rcnn_r101_fpn_1x_mean() -> Recipe:
    """The same with the mean scores of heads "(1~3)" (Table 1: test-dev 43.4, +0.6 AP).

    accelerate launch -m postnms train cascade_rcnn_r101_fpn_1x_mean --data coco --out runs/cascade_mean
    A run of the other can also be evaluated so: postnms eval runs/cascade --set detector.scoring=mean
    Not yet run here.
    """
    return override(
        cascade_rcnn_r101_fpn_1x(), ["name=cascade_rcnn_r101_fpn_1x_mean", "detector.scoring=mean"]
    )


def faster_rcnn_r18_small() -> Recipe:
    """Small data sets of small images, from random weights, on a CPU: ResNet-18, 64-channel pyramid, 192 px.

    postnms train faster_rcnn_r18_small --data FOLDER --out runs/small
    The iterations are 30 epochs of 444 images. The stage is narrower than the paper's and learns faster (its loss
    is scaled down by beta), and its location loss turns linear sooner, as the detector's own does.
    On blood cells about 20 minutes on two CPU cores. AP of two runs: 74.8 and 74.0 for NMS, 76.4 and 75.3 for post-NMS,
    73.6 and 74.1 without the stage.
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
    return _small("faster_rcnn_r18_small", detector)


def retinanet_r18_small() -> Recipe:
    """RetinaNet for small data sets; all else as in faster_rcnn_r18_small.

    postnms train retinanet_r18_small --data FOLDER --out runs/retinanet
    On blood cells about 28 minutes on one CPU core: 58.5 AP for NMS, 63.9 for post-NMS.
    """
    detector = RetinaNetConfig(
        backbone=_small_backbone(), min_size=192, max_size=320, anchor_sizes=(16, 32, 64, 128, 256)
    )
    return _small("retinanet_r18_small", detector)


def cascade_rcnn_r18_small() -> Recipe:
    """Cascade R-CNN for small data sets; all else as in faster_rcnn_r18_small.

    postnms train cascade_rcnn_r18_small --data FOLDER --out runs/cascade
    On blood cells about 45 minutes on one CPU core: 75.3 AP for NMS and 75.2 for post-NMS; a stage trained alone after
    that (--from runs/cascade --freeze detector) with stage.delta_weights=[30,30,15,15] gives 75.8.
    """
    shared = faster_rcnn_r18_small().detector.model_dump(
        exclude={"kind", "box_fg_iou_thresh", "box_bg_iou_thresh"}
    )
    return _small("cascade_rcnn_r18_small", CascadeRCNNConfig(**shared))


def demo() -> Recipe:
    """The built-in crowded scenes, small enough for about four minutes on two CPU cores.

    postnms demo
    """
    small = faster_rcnn_r18_small()
    training = {"iterations": 400, "warmup_iterations": 100, "steps": (320, 375)}
    every = {"checkpoint_every": 100, "evaluate_every": 200}
    return small.model_copy(
        update={
            "name": "demo",
            "data": DataConfig(scenes=ScenesConfig(), cache=True, workers=0),
            "detector": small.detector.model_copy(update={"min_size": 160}),
            "training": small.training.model_copy(update={**training, **every}),
        }
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo,
    "faster_rcnn_r18_small": faster_rcnn_r18_small,
    "retinanet_r18_small": retinanet_r18_small,
    "cascade_rcnn_r18_small": cascade_rcnn_r18_small,
    "faster_rcnn_r50_fpn_1x": faster_rcnn_r50_fpn_1x,
    "faster_rcnn_r101_fpn_1x": faster_rcnn_r101_fpn_1x,
    "faster_rcnn_x101_fpn_1x": faster_rcnn_x101_fpn_1x,
    "retinanet_r50_fpn_1x": retinanet_r50_fpn_1x,
    "retinanet_r101_fpn_1x": retinanet_r101_fpn_1x,
    "retinanet_x101_fpn_1x": retinanet_x101_fpn_1x,
    "cascade_rcnn_r101_fpn_1x": cascade_rcnn_r101_fpn_1x,
    "cascade_rcnn_r101_fpn_1x_mean": cascade_rcnn_r101_fpn_1x_mean,
}


def get_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A named recipe with ``path=value`` overrides. Raises UserError for an unknown name, path or value."""
    if name not in RECIPES:
        raise UserError(f"recipe {name!r}: no such recipe ({nearest(name, list(RECIPES))})")
    return override(RECIPES[name](), overrides)


def describe(name: str) -> str:
    """What a named recipe is for, how it is run and what it gives."""
    return inspect.cleandoc(RECIPES[name].__doc__ or "")


def _imagenet(name: BackboneName) -> BackboneConfig:
    return BackboneConfig(name=name, weights="imagenet", norm="frozen", trainable_layers=3)


def _on_coco(name: str, detector: DetectorConfig) -> Recipe:
    """The paper's schedule: 90k iterations of 16 images, rate 0.02, a tenth from 60k and again from 80k."""
    return Recipe(
        name=name,
        data=DataConfig(
            train_annotations="annotations/instances_train2017.json",
            train_images="train2017",
            val_annotations="annotations/instances_val2017.json",
            val_images="val2017",
        ),
        detector=detector,
        training=TrainingConfig(
            iterations=90_000, batch_size=16, lr=0.02, momentum=0.9, steps=(60_000, 80_000)
        ),
    )


def _small_backbone() -> BackboneConfig:
    return BackboneConfig(name="resnet18", fpn_channels=64, norm="trained", trainable_layers=5)


def _small(name: str, detector: DetectorConfig) -> Recipe:
    return Recipe(
        name=name,
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
