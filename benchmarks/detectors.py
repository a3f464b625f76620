"""Time bare detectors beside torchvision's own models, and Cascade R-CNN beside Faster R-CNN.

    python benchmarks/detectors.py [--sizes 320x320 800x1333] [--rounds 7] [--models NAME ...]

It prints the ratio of the times, the parameters and the multiply-adds. Both sides have the same
modules and weights, and take turns in one process. The weights are random, and the last layers of
classification are scaled so that the scores differ. The score threshold is the one that leaves
``--candidates`` boxes to suppress. Random scores would leave thousands, and the share of the
suppression in the time would be larger than it is in practice.

Cascade R-CNN is compared with Faster R-CNN on the same backbone. Sizes are those of the network's
input, which is padded to a multiple of 32. The published figures are those of torchvision for 91
outputs. Its multiply-adds, which it calls GFLOPS, belong to an input of its own choice.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.roi_heads import RoIHeads

from postnms import StageConfig, from_torchvision
from postnms.cli.console import command_line
from postnms.detectors import CascadeRCNNConfig, Detector, FasterRCNNConfig, build_detector
from postnms.files.atomic import write_json
from postnms.runs.provenance import provenance
from postnms.speed.timing import milliseconds

MODELS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
"""Models of torchvision that are compared."""
OUTPUTS = 91
"""Number of outputs of a model, the background class included."""
SPREADS = {"cls_logits": -4.0, "cls_score": 0.0, "classification_head.module_list": 0.0}
"""Mean logit of the last layers of classification, by a part of their name.

The standard deviation of the logits is 1.5.
"""


def photograph(size: tuple[int, int]) -> Tensor:
    """Return a random image (3, height, width) of soft patches of colour.

    Features differ from one position to another, as in a photograph.
    """
    patches = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(patches, size, mode="bilinear")[0]


@torch.no_grad()
def calibrate(backbone: nn.Module) -> None:
    """Give batch norm the statistics of an image.

    Without them, the deep features of random weights vanish.
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    # With a momentum of 1, the statistics are those of the last batch alone.
    for norm in norms:
        norm.momentum = 1.0
    backbone.train()(4 * photograph((320, 320)).expand(2, -1, -1, -1) - 2)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    backbone.eval()


@torch.no_grad()
def spread(model: nn.Module, call: Callable[[list[Tensor]], object]) -> None:
    """Scale the last layers of classification, so that scores differ from position to position.

    Each layer is scaled at its first call.
    """
    hooks = []

    def scale(layer: nn.Module, _: object, output: Tensor, mean: float, done: set[int]) -> None:
        if id(layer) in done:
            return
        done.add(id(layer))
        factor = 1.5 / float(output.std().clamp(min=1e-6))
        layer.weight.mul_(factor)
        layer.bias.fill_(mean - factor * float(output.mean() - layer.bias.mean()))

    done: set[int] = set()
    for name, layer in model.named_modules():
        mean = next((mean for piece, mean in SPREADS.items() if piece in name), None)
        if mean is not None and isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            hooks.append(layer.register_forward_hook(lambda *a, m=mean: scale(*a, m, done)))
    call([photograph((320, 320))])
    for hook in hooks:
        hook.remove()


def candidates_of(detector: Detector, image: list[Tensor]) -> Tensor:
    """Return the scores of the candidates of an image, in falling order."""
    batch = detector.network.prepare(image)
    candidates, _ = detector.network.candidates(detector.network.features(batch), batch)
    return candidates.scores.sort(descending=True).values


def leave_candidates(model: nn.Module, detector: Detector, image: list[Tensor], count: int) -> None:
    """Raise the score threshold of a model until at most ``count`` candidates are left.

    ``detector`` shares the modules of the model, and counts its candidates.
    """
    scores = candidates_of(detector, image)
    if len(scores) > count:
        # A model with two stages has its threshold in the heads.
        heads = [module for module in model.modules() if isinstance(module, RoIHeads)]
        for owner in heads or [model]:
            owner.score_thresh = float(scores[count])


def multiply_adds(call: Callable[[], object]) -> float:
    """Return the multiply-adds of convolutions and matrix products of a call, in units of 1e9."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e9


def millions(model: nn.Module) -> float:
    """Return the number of parameters of a model, in millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def compare(name: str, size: tuple[int, int], rounds: int, count: int) -> dict[str, float]:
    """Time a torchvision model and the bare detector that shares its modules, on one image.

    The score threshold leaves ``count`` candidates.
    """
    own_size = {} if name.startswith("ssd") else {"min_size": min(size), "max_size": max(size)}
    torch.manual_seed(0)
    model = get_model(
        name, weights=None, weights_backbone=None, num_classes=OUTPUTS, **own_size
    ).eval()
    calibrate(model.backbone)
    spread(model, model)
    image = [photograph(size)]
    leave_candidates(model, from_torchvision(model, None).eval(), image, count)
    # A detector takes over the thresholds of the model when it is made, so it is made again.
    detector = from_torchvision(model, None).eval()
    times = milliseconds({"ours": lambda: detector(image), "theirs": lambda: model(image)}, rounds)
    published = get_model_weights(name)["DEFAULT"].meta
    height, width = detector.network.prepare(image).pixels.shape[2:]
    return {
        **times,
        "height": height,
        "width": width,
        "ratio": times["ours"] / times["theirs"],
        "candidates": len(candidates_of(detector, image)),
        "parameters": millions(detector),
        "published_parameters": published["num_params"] / 1e6,
        "multiply_adds": multiply_adds(lambda: detector(image)),
        "published_multiply_adds": published["_ops"],
    }


def cascade(size: tuple[int, int], rounds: int, count: int) -> dict[str, float]:
    """Time Cascade R-CNN R50 in both ways of scoring, and Faster R-CNN R50 with and without stage.

    The ratios are those over Faster R-CNN without the stage. The score threshold leaves ``count``
    candidates.
    """
    sizes = {"min_size": min(size), "max_size": max(size)}
    configs = {
        "faster": FasterRCNNConfig(**sizes),
        "cascade": CascadeRCNNConfig(**sizes),
        "cascade_mean": CascadeRCNNConfig(**sizes, scoring="mean"),
    }
    image = [photograph(size)]
    sides: dict[str, Detector] = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        sides[name] = build_detector(config, None, OUTPUTS - 1).eval()
        calibrate(sides[name].get_submodule("network.backbone"))
        spread(sides[name], sides[name])
        leave_candidates(sides[name], sides[name], image, count)
    torch.manual_seed(0)
    sides["faster_stage"] = build_detector(configs["faster"], StageConfig(), OUTPUTS - 1).eval()
    sides["faster_stage"].network = sides["faster"].network
    times = milliseconds(
        {name: lambda d=detector: d(image) for name, detector in sides.items()}, rounds
    )
    ratios = {f"{name}_ratio": times[name] / times["faster"] for name in sides if name != "faster"}
    costs = {
        f"{name}_multiply_adds": multiply_adds(lambda d=side: d(image))
        for name, side in sides.items()
    }
    return {**times, **ratios, **costs, "cascade_parameters": millions(sides["cascade"])}


def print_comparison(name: str, figures: dict[str, float]) -> None:
    """Print one line of the table of models."""
    shape = f"{figures['height']:.0f}x{figures['width']:.0f}"
    print(
        f"{shape:>9} {name:34s} "
        f"{figures['ours']:8.1f} {figures['theirs']:9.1f} {figures['ratio']:6.3f} "
        f"{figures['candidates']:6.0f} "
        f"{figures['parameters']:8.2f} ({figures['published_parameters']:.2f}) "
        f"{figures['multiply_adds']:9.1f} ({figures['published_multiply_adds']:.1f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", default=["320x320", "800x1333"])
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    record = {}
    columns = ("ours ms", "theirs ms", " ratio", " cands", "M params (publ.)", "G madds (publ.)")
    print(f"{'size':>9} {'model':34s}  {'  '.join(columns)}")
    with torch.no_grad():
        for text in arguments.sizes:
            height, _, width = text.partition("x")
            size = (int(height), int(width))
            for name in arguments.models:
                # SSD and SSDlite have a fixed size, so one comparison is enough.
                if name.startswith("ssd") and text != arguments.sizes[0]:
                    continue
                figures = compare(name, size, arguments.rounds, arguments.candidates)
                record[f"{name} {text}"] = figures
                print_comparison(name, figures)
            figures = cascade(size, arguments.rounds, arguments.candidates)
            record[f"cascade {text}"] = figures
            print(
                f"{text:>9} " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items()),
                flush=True,
            )
    if arguments.out:
        write_json(arguments.out, {**provenance(0, None, command_line()), "figures": record})


if __name__ == "__main__":
    main()
