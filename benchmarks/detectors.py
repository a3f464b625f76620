"""Bare detectors against torchvision's own forward: ratio of time, parameters and multiply-adds.

    python benchmarks/detectors.py [--sizes 320x320 800x1333] [--rounds 7] [--models fasterrcnn_resnet50_fpn ...]

Both sides have the same modules and weights and take turns in one process; the weights are random, with last layers
spread, and the score threshold is the one that leaves ``--candidates`` boxes to suppress: with the thousands that
random scores would leave, suppression would weigh more than it does. Then Cascade R-CNN against Faster R-CNN on the
same backbone. Sizes are of the network's input, padded to a multiple of 32. The published figures are those of
torchvision, for 91 outputs; its multiply-adds, which it calls GFLOPS, are of an input of its own choice.
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
OUTPUTS = 91
SPREADS = {"cls_logits": -4.0, "cls_score": 0.0, "classification_head.module_list": 0.0}
"""Mean logits of the last layers of classification, by a part of their name; their deviation is 1.5."""


def photograph(size: tuple[int, int]) -> Tensor:
    """Soft patches of colour: places differ, as in photographs."""
    patches = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(patches, size, mode="bilinear")[0]


@torch.no_grad()
def calibrate(backbone: nn.Module) -> None:
    """Give batch norm the statistics of an image, without which deep features of random weights vanish."""
    norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.momentum = 1.0
    backbone.train()(4 * photograph((320, 320)).expand(2, -1, -1, -1) - 2)
    for part, momentum in zip(norms, momenta, strict=True):
        part.momentum = momentum
    backbone.eval()


@torch.no_grad()
def spread(model: nn.Module, call: Callable[[list[Tensor]], object]) -> None:
    """Scale the last layers of classification, each at its first call, so that scores differ from place to place."""
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
        mean = next((mean for part, mean in SPREADS.items() if part in name), None)
        if mean is not None and isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            hooks.append(layer.register_forward_hook(lambda *a, m=mean: scale(*a, m, done)))
    call([photograph((320, 320))])
    for hook in hooks:
        hook.remove()


def candidates_of(detector: Detector, image: list[Tensor]) -> Tensor:
    """Scores of the candidates of an image, falling."""
    batch = detector.network.prepare(image)
    found, _ = detector.network.candidates(detector.network.features(batch), batch)
    return found.scores.sort(descending=True).values


def leave_candidates(
    model: nn.Module, detector: Detector, image: list[Tensor], wanted: int
) -> None:
    """Raise the score threshold of the model's own class until so many candidates are left, if there are more."""
    scores = candidates_of(detector, image)
    if len(scores) > wanted:
        for owner in [part for part in model.modules() if isinstance(part, RoIHeads)] or [model]:
            owner.score_thresh = float(scores[wanted])


def multiply_adds(call: Callable[[], object]) -> float:
    """In thousand millions; of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2e9


def millions(model: nn.Module) -> float:
    """Parameters."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def compare(name: str, size: tuple[int, int], rounds: int, wanted: int) -> dict[str, float]:
    """A torchvision model and the bare detector that shares its modules, on one image of the given size."""
    own_size = {} if name.startswith("ssd") else {"min_size": min(size), "max_size": max(size)}
    torch.manual_seed(0)
    model = get_model(
        name, weights=None, weights_backbone=None, num_classes=OUTPUTS, **own_size
    ).eval()
    calibrate(model.backbone)
    spread(model, model)
    image = [photograph(size)]
    leave_candidates(model, from_torchvision(model, None).eval(), image, wanted)
    detector = from_torchvision(model, None).eval()
    found = milliseconds({"ours": lambda: detector(image), "theirs": lambda: model(image)}, rounds)
    published = get_model_weights(name)["DEFAULT"].meta
    height, width = detector.network.prepare(image).pixels.shape[2:]
    return {
        **found,
        "height": height,
        "width": width,
        "ratio": found["ours"] / found["theirs"],
        "candidates": len(candidates_of(detector, image)),
        "parameters": millions(detector),
        "published_parameters": published["num_params"] / 1e6,
        "multiply_adds": multiply_adds(lambda: detector(image)),
        "published_multiply_adds": published["_ops"],
    }


def cascade(size: tuple[int, int], rounds: int, wanted: int) -> dict[str, float]:
    """Cascade R-CNN R50, both ways of scoring, over Faster R-CNN R50, with and without the stage."""
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
        leave_candidates(sides[name], sides[name], image, wanted)
    torch.manual_seed(0)
    sides["faster_stage"] = build_detector(configs["faster"], StageConfig(), OUTPUTS - 1).eval()
    sides["faster_stage"].network = sides["faster"].network
    found = milliseconds(
        {name: lambda d=detector: d(image) for name, detector in sides.items()}, rounds
    )
    ratios = {f"{name}_ratio": found[name] / found["faster"] for name in sides if name != "faster"}
    costs = {
        f"{name}_multiply_adds": multiply_adds(lambda d=side: d(image))
        for name, side in sides.items()
    }
    return {**found, **ratios, **costs, "cascade_parameters": millions(sides["cascade"])}


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
                if name.startswith("ssd") and text != arguments.sizes[0]:
                    continue  # they have one size of their own
                found = record[f"{name} {text}"] = compare(
                    name, size, arguments.rounds, arguments.candidates
                )
                shape = f"{found['height']:.0f}x{found['width']:.0f}"
                print(
                    f"{shape:>9} {name:34s} {found['ours']:8.1f} {found['theirs']:9.1f} {found['ratio']:6.3f} "
                    f"{found['candidates']:6.0f} {found['parameters']:8.2f} ({found['published_parameters']:.2f}) "
                    f"{found['multiply_adds']:9.1f} ({found['published_multiply_adds']:.1f})",
                    flush=True,
                )
            found = record[f"cascade {text}"] = cascade(
                size, arguments.rounds, arguments.candidates
            )
            print(
                f"{text:>9} " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()),
                flush=True,
            )
    if arguments.out:
        write_json(arguments.out, {**provenance(0, None), "figures": record})


if __name__ == "__main__":
    main()
