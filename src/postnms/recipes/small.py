"""Small recipes, for data sets of some hundred images and for a CPU."""

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
from postnms.detectors.config import TwoStageConfig
from postnms.recipes.coco import PISA, SOFTER_NMS
from postnms.recipes.config import Recipe, TrainingConfig, override
from postnms.stage import StageConfig

_TUNED = {
    "stage.member_labels": "own",
    "stage.representative_rows": False,
    "stage.objectness": "iou",
    "stage.fusion": (0.5, 0.0, 0.5),
    "stage.fusion_mean": "geometric",
    "stage.suppressor": "soft_nms_linear",
}
"""What differs from the paper's stage. The first two were chosen on scenes that are no val images,
the rest on a fifth of the training images of blood cells and of the aquarium, which was set aside
(``postnms tune-fusion``). s_clu has no weight, so representative boxes are neither trained on nor
looked at."""


def faster_rcnn_r18_small() -> Recipe:
    """Faster R-CNN R18-FPN for small data sets of small images, on a CPU.

    postnms train faster_rcnn_r18_small --data FOLDER --out runs/small
    The detector has a ResNet-18 with random weights and a pyramid of 64 channels.
    The shorter side of an image is resized to 192 pixels. The iterations are
    30 epochs of 444 images.
    The stage is narrower than the paper's. It has a higher learning rate, because
    beta scales its loss down. Its location loss turns linear at a smaller error, as
    that of the detector does. Each member learns its own object, the objectness
    learns how well the box lies, and Soft-NMS on the boxes of the stage gives one
    more result. docs/results has what that brings.
    """
    return override(faster_rcnn_r18_small_paper(), _TUNED)


def faster_rcnn_r18_small_paper() -> Recipe:
    """The same with the paper's labels and scores, and without Soft-NMS on its boxes.

    postnms train faster_rcnn_r18_small_paper --data FOLDER --out runs/paper
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
    All other settings are those of faster_rcnn_r18_small_paper.
    On blood cells the training takes about 28 minutes on one CPU core.
    """
    detector = RetinaNetConfig(
        backbone=_small_backbone(), min_size=192, max_size=320, anchor_sizes=(16, 32, 64, 128, 256)
    )
    return _small(detector)


def cascade_rcnn_r18_small() -> Recipe:
    """Cascade R-CNN R18-FPN for small data sets of small images, on a CPU.

    postnms train cascade_rcnn_r18_small --data FOLDER --out runs/cascade
    All other settings are those of faster_rcnn_r18_small_paper.
    On blood cells the training takes about 45 minutes on one CPU core. The last head
    leaves little to move. A stage that is trained alone after that has finer deltas:
    --from runs/cascade --freeze detector --set stage.delta_weights=[30,30,15,15]
    """
    shared = faster_rcnn_r18_small_paper().detector.model_dump(
        include=set(TwoStageConfig.model_fields)
    )
    return _small(CascadeRCNNConfig(**shared))


def softer_nms_r18_small() -> Recipe:
    """Faster R-CNN R18-FPN with the KL loss, for variance voting (Softer-NMS), on a CPU.

    postnms train softer_nms_r18_small --set detector.box_loss=smooth_l1 --data FOLDER \\
        --out runs/edges
    postnms train softer_nms_r18_small --from runs/edges --data FOLDER --out runs/softer
    postnms dump runs/softer --data FOLDER --out softer.safetensors
    The first run may be left out. There is no stage. All other settings are those of
    faster_rcnn_r18_small_paper.
    """
    return override(faster_rcnn_r18_small_paper(), SOFTER_NMS)


def pisa_r18_small() -> Recipe:
    """Faster R-CNN R18-FPN trained with PISA (prime sample attention), on a CPU.

    postnms train pisa_r18_small --data FOLDER --out runs/pisa
    There is no stage. All other settings are those of faster_rcnn_r18_small_paper.
    """
    return override(faster_rcnn_r18_small_paper(), PISA)


def finetune() -> Recipe:
    """Faster R-CNN EfficientNet-lite0-FPN for some hundred images of your own, on a CPU.

    postnms train finetune --data FOLDER
    It needs the extra ``pretrained``, which has the ImageNet weights of the backbone, and it trains
    for 20 epochs. The shorter side of an image is resized to 320 pixels.
    Each member of a cluster learns its own object, the objectness of the stage learns
    how well a box lies, and Soft-NMS on its boxes gives one more result.
    """
    return override(finetune_paper(), _TUNED)


def finetune_paper() -> Recipe:
    """The same with the paper's labels and scores, and without Soft-NMS on its boxes.

    postnms train finetune_paper --data FOLDER
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
        precision="auto",
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
            precision="auto",
            channels_last=True,
            log_every=10,
            checkpoint_every=111,
            evaluate_every=555,
        ),
    )
