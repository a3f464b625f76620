"""A detector over some images in memory: all rows of each, in the pixels of that image."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from postnms.clustering import cluster
from postnms.config import Progress, no_progress
from postnms.data.resizing import InputSize, resize
from postnms.detectors import Detector
from postnms.structures import Clusters, Detections, Scored, move, of_image, rescale

Rows = dict[str, Detections]
"""The detections of one image by the name of the row."""


@torch.no_grad()
def detect_images(
    detector: Detector,
    images: Sequence[Image.Image],
    size: InputSize | None,
    cut: Progress = no_progress,
) -> list[Rows]:
    """Detect objects in some images, with one forward pass for all images of the same size.

    The result of an image does not depend on the others: images of other sizes would pad it.

    Args:
        detector: in evaluation mode. Its parameters decide the device.
        images: RGB images.
        size: how images are resized for the detector. None: the detector gets them as they are.
        cut: called with the number of images of which NMS kept more boxes than the detector's
            limit, once for each forward pass.

    Returns:
        For each image its rows, in pixels of the image and on the CPU.
    """
    tensors = [pil_to_tensor(image if size is None else resize(image, *size)) for image in images]
    by_shape: dict[torch.Size, list[int]] = {}
    for index, tensor in enumerate(tensors):
        by_shape.setdefault(tensor.shape, []).append(index)
    device = next(detector.parameters()).device
    found: dict[int, Rows] = {}
    for members in by_shape.values():
        output = detector([tensors[index].to(device) for index in members])
        cut(0 if output.cut is None else int(output.cut.sum()))
        for position, index in enumerate(members):
            found[index] = {
                name: _in_pixels_of(images[index], tensors[index], of_image(row, position))
                for name, row in output.rows.items()
            }
    return [found[index] for index in range(len(images))]


def clusters_of_image(detector: Detector, image: Image.Image, size: InputSize | None) -> Clusters:
    """Return the candidates of an image in the clusters that NMS makes, in its pixels, on the CPU.

    The arguments are those of :func:`detect_images`.
    """
    tensor = pil_to_tensor(image if size is None else resize(image, *size))
    device = next(detector.parameters()).device
    candidates = detector.trace([tensor.to(device)]).candidates
    return cluster(_in_pixels_of(image, tensor, candidates), detector.network.nms_threshold)


def _in_pixels_of(image: Image.Image, resized: Tensor, found: Scored) -> Scored:
    """Return what was found in a resized image in the pixels of the image, on the CPU."""
    factors = (image.width / resized.shape[2], image.height / resized.shape[1])
    device = found.boxes.device
    scaled = rescale(found, torch.tensor([factors], dtype=torch.float32, device=device))
    return move(scaled, "cpu")
