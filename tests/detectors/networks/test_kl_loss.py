"""Two-stage detectors that move edges and learn their variances."""

import pytest
import torch

from postnms.detectors import (
    CascadeRCNNConfig,
    FasterRCNNConfig,
    Selection,
    build_detector,
)
from postnms.detectors.image_batch import to_network
from postnms.errors import UserError
from postnms.files.fitting_weights import load_fitting_weights
from postnms.files.state_dicts import load_weights
from tests.support.detectors import CONFIGS, TARGETS, TWO, build

EDGES = {"box_coding": "edges"}
KL = {**EDGES, "box_loss": "kl"}
NAMES = ("faster_rcnn", "cascade_rcnn")
LAST = {"faster_rcnn": "roi_heads", "cascade_rcnn": "heads.2"}


def new_network(name, seed=0, classes=3, **changes):
    torch.manual_seed(seed)
    return build_detector(CONFIGS[name].model_copy(update=changes), None, classes).network


@pytest.mark.parametrize("name", [*NAMES, "cascade_rcnn_mean"])
@torch.no_grad()
def test_each_candidate_has_the_variances_of_its_edges_in_pixels(name):
    network = build(name, None, **KL).eval().network
    batch = network.prepare(TWO)
    features = network.features(batch)
    head = network.get_submodule(LAST[name.removesuffix("_mean")])
    seen = []
    head.box_predictor.register_forward_hook(lambda *given: seen.append(given[2]))
    own = network._run if name.startswith("cascade") else network._predict
    inputs = []

    def keeping(*arguments, **options):
        inputs.append(own(*arguments, **options))
        return inputs[-1]

    setattr(network, "_run" if name.startswith("cascade") else "_predict", keeping)
    found, _ = network.candidates(features, batch)
    _, deltas, extra = seen[0]
    (log_variance,) = extra.values()
    boxes = torch.cat(inputs[0].boxes)
    starts = torch.tensor([0, len(inputs[0].boxes[0])])
    weight = 10.0 if name == "faster_rcnn" else 30.0
    column = found.extra["edge_log_variance"]
    assert column.shape == (len(found.scores), 4)
    assert len(column) > 10
    assert column.std() > 0.1
    sizes = torch.tensor(batch.sizes)
    for row in range(len(column)):
        proposal = starts[found.image[row]] + found.source[row]
        output = found.labels[row] + 1 if name == "faster_rcnn" else 0
        x1, y1, x2, y2 = boxes[proposal]
        units = torch.stack([x2 - x1, y2 - y1, x2 - x1, y2 - y1]) / weight
        wanted = log_variance[proposal, output] + 2 * units.log()
        torch.testing.assert_close(column[row], wanted, rtol=1e-4, atol=1e-4)
        moved = boxes[proposal] + deltas[proposal].view(-1, 4)[output] * units
        height, width = sizes[found.image[row]]
        limits = torch.stack([width, height, width, height])
        inside = torch.minimum(moved.clamp(min=0), limits)
        torch.testing.assert_close(found.boxes[row], inside, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_candidates_of_training_are_those_of_the_test(name):
    limits = {"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 100}
    network = build(name, None, **KL, **limits).eval().network
    batch = network.prepare(TWO)
    features = network.features(batch)
    truth = to_network(TARGETS, batch, 3)
    trained, _ = network.candidates(features, batch, truth)
    tested, _ = network.candidates(features, batch)
    assert torch.equal(trained.boxes, tested.boxes)
    columns = [part.extra["edge_log_variance"] for part in (trained, tested)]
    assert torch.equal(*columns)
    sampled, _ = network.candidates(features, batch, truth, Selection("sampled"))
    assert sampled.extra.keys() == {"edge_log_variance"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_some_steps_of_training_are_finite_and_teach_the_variances(name, dtype):
    torch.manual_seed(0)
    detector = build_detector(CONFIGS[name].model_copy(update=KL), None, 3).train()
    layers = [
        layer
        for part, layer in detector.named_modules()
        if part.endswith("box_predictor.bbox_pred_std")
    ]
    assert len(layers) == (3 if name == "cascade_rcnn" else 1)
    before = [layer.weight.clone() for layer in layers]
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9)
    for _ in range(4):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = detector(TWO, TARGETS).losses
        assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert all(torch.isfinite(p.grad).all() for p in detector.parameters())
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
        optimizer.step()
    assert not any(
        torch.equal(layer.weight, old) for layer, old in zip(layers, before, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_images_without_objects_have_a_loss_of_zero(name):
    nothing = TARGETS.__class__(
        TARGETS.boxes[:0], TARGETS.labels[:0], TARGETS.image[:0], TARGETS.crowd[:0], 2
    )
    losses = build(name, None, **KL).train()(TWO, nothing).losses
    located = [loss for term, loss in losses.items() if term.startswith("loss_box_reg")]
    assert located
    assert all(loss == 0 for loss in located)
    sum(losses.values()).backward()


def test_names_of_the_layers():
    names = {
        coding: set(new_network("faster_rcnn", **changes).state_dict())
        for coding, changes in {"centre": {}, "edges": EDGES, "kl": KL}.items()
    }
    predictor = "roi_heads.box_predictor."
    assert names["centre"] - names["edges"] == {
        f"{predictor}bbox_pred.{kind}" for kind in ("weight", "bias")
    }
    assert names["edges"] - names["centre"] == {
        f"{predictor}edge_pred.{kind}" for kind in ("weight", "bias")
    }
    assert names["kl"] - names["edges"] == {
        f"{predictor}bbox_pred_std.{kind}" for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("config", [FasterRCNNConfig, CascadeRCNNConfig])
def test_the_kl_loss_needs_edges(config):
    with pytest.raises(
        UserError, match=r"box_coding: expected 'edges' with box_loss 'kl'.*, got 'centre'$"
    ):
        config.parse({"box_loss": "kl"}, "detector")


def load(network, source, **options):
    """Start a network as a run does; return the note and what it was before."""
    before = {part: value.clone() for part, value in network.state_dict().items()}
    layers, count = network.class_layers, network.classes.count
    note = load_fitting_weights(
        network,
        source.state_dict(),
        "file",
        layers,
        count,
        may_lack=network.added_layers,
        **options,
    )
    return note, before


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("faster_rcnn", "roi_heads.box_predictor.bbox_pred_std"),
        ("cascade_rcnn", "heads.*.box_predictor.bbox_pred_std"),
    ],
)
def test_training_goes_on_from_edges_without_variances(name, layer):
    source, network = new_network(name, 0, **EDGES), new_network(name, 1, **KL)
    with pytest.raises(UserError, match=r"bbox_pred_std\.weight is missing"):
        load_weights(network, source.state_dict(), "file")
    note, before = load(network, source)
    assert note == f"initial: {layer} (not in the file)"
    for part, value in network.state_dict().items():
        wanted = before[part] if "bbox_pred_std" in part else source.state_dict()[part]
        assert torch.equal(value, wanted), part
    # The way back leaves the variances out, and says so.
    note, _ = load(source, network)
    assert note.startswith("unused: ")


def test_variances_of_other_classes_start_anew_with_the_other_layers():
    network = new_network("faster_rcnn", 1, **KL)
    names = ", ".join(f"roi_heads.box_predictor.{n}" for n in ("cls_score", "edge_pred"))
    std = "roi_heads.box_predictor.bbox_pred_std"
    note, _ = load(network, new_network("faster_rcnn", 0, classes=5, **KL))
    assert note == f"renewed: {names}, {std} (6 -> 4 outputs)"
    note, before = load(network, new_network("faster_rcnn", 0, classes=5, **EDGES))
    assert note == f"renewed: {names}, {std} (6 -> 4 outputs)"
    assert torch.equal(network.state_dict()[f"{std}.weight"], before[f"{std}.weight"])


@pytest.mark.parametrize(("given", "wanted"), [({}, EDGES), (EDGES, {}), ({}, KL)])
def test_weights_of_the_other_coding_are_never_taken_over(given, wanted):
    """A Faster R-CNN says which layers start anew. Other ways to load refuse, Cascade always."""
    missing = "edge_pred" if wanted else "bbox_pred"
    for name in NAMES:
        source, network = new_network(name, 0, **given), new_network(name, 1, **wanted)
        with pytest.raises(UserError, match=rf"{missing}\.weight is (missing|not in the model)"):
            load_weights(network, source.state_dict(), "file")
    with pytest.raises(UserError, match=rf"{missing}\.weight is missing"):
        load(network, source)
    source = new_network("faster_rcnn", 0, **given)
    network = new_network("faster_rcnn", 1, **wanted)
    note, before = load(network, source)
    assert note.startswith(f"renewed: {', '.join(network.class_layers)} (not in the file)")
    for part, value in network.state_dict().items():
        is_new = "box_predictor" in part
        assert torch.equal(value, before[part] if is_new else source.state_dict()[part]), part
