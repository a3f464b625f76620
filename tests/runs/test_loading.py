"""Detectors of runs: loaded from their folder, and started from the weights of other runs."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from postnms.data.dataset import Category
from postnms.errors import UserError
from postnms.files.tensor_files import save_tensors
from postnms.recipes import get_recipe, override, parse_changes
from postnms.runs.folder import RunFolder, read_categories
from postnms.runs.loading import build_run_detector, load_detector, start_from
from postnms.training import loop as training
from tests.support.runs import TINY, run, tiny, weights_of


@pytest.fixture
def bare(trained_bare_run):
    """A run without the stage."""
    return RunFolder(trained_bare_run)


def network_of(folder):
    return weights_of(folder, "network.")


def test_a_detector_is_that_of_the_last_checkpoint_until_there_are_weights(trained_run, tmp_path):
    folder = RunFolder(shutil.copytree(trained_run, tmp_path / "run"))
    final = load_detector(folder)
    folder.weights.unlink()
    last = load_detector(folder)
    assert not final.training
    assert not last.training
    for mine, theirs in zip(last.state_dict().values(), final.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "what", ["root", "weights", "checkpoint", "plain.safetensors", "plain.pth"]
)
def test_a_frozen_detector_stays_as_it_was_and_its_rows_too(bare, tmp_path, what):
    start = getattr(bare, what, None) or tmp_path / what
    if what == "plain.safetensors":
        save_file(network_of(bare), start)
    elif what == "plain.pth":
        torch.save(network_of(bare), start)
    recipe = tiny(
        "training.iterations=2", f"training.start_from={start}", "training.freeze=detector"
    )
    run(tmp_path / "run", recipe)
    folder = RunFolder(tmp_path / "run")
    before, after = network_of(bare), network_of(folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    rows = [json.loads(run.results("nms").read_text()) for run in (folder, bare)]
    assert rows[0] == rows[1]
    losses = json.loads(folder.log.read_text().splitlines()[0])
    assert {name for name in losses if name.startswith("loss_")} == {
        "loss_stage_cls",
        "loss_stage_loc",
    }
    assert load_detector(folder).stage is not None


def test_a_frozen_run_resumes_to_the_last_digit_without_what_it_started_from(
    bare, tmp_path, monkeypatch
):
    plain = tmp_path / "plain.safetensors"
    save_file(network_of(bare), plain)
    changes = (
        "training.iterations=4",
        "training.checkpoint_every=1",
        f"training.start_from={plain}",
    )
    recipe = tiny(*changes, "training.freeze=detector")
    run(tmp_path / "whole", recipe)
    step, calls = training.training_step, []

    def stop_in_the_third(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(training, "training_step", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", recipe)
    monkeypatch.undo()
    plain.unlink()
    run(tmp_path / "run", recipe, resume=True)
    whole, resumed = (RunFolder(tmp_path / name) for name in ("whole", "run"))
    rows = [json.loads(line) for line in resumed.log.read_text().splitlines()]
    assert sum("loss" in row for row in rows) == 4
    mine, theirs = weights_of(resumed), weights_of(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_run_of_a_torchvision_model_is_evaluated_from_its_folder(tmp_path):
    model = {"kind": "torchvision", "model": "ssdlite320_mobilenet_v3_large"}
    tiny_models = [change for change in TINY if not change.startswith("detector.")]
    settings = [
        f"detector={json.dumps(model)}",
        "training.iterations=1",
        "training.precision=float32",
    ]
    recipe = get_recipe("demo", parse_changes([*tiny_models, *settings]))
    trained = run(tmp_path, recipe).eval()
    loaded = load_detector(RunFolder(tmp_path))
    image = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        rows, again = trained(image).rows, loaded(image).rows
    assert len(rows["post_nms"].scores) > 0
    assert torch.equal(rows["post_nms"].boxes, again["post_nms"].boxes)


def test_the_stage_of_a_run_is_taken_too(trained_run, tmp_path):
    start = f"training.start_from={trained_run}"
    again = run(tmp_path / "again", tiny("training.iterations=1", "training.lr=1e-9", start))
    stage = weights_of(RunFolder(trained_run), "stage.")["heads.objectness_trunk.fc6.weight"]
    torch.testing.assert_close(
        again.stage.heads.objectness_trunk.fc6.weight, stage, rtol=1e-5, atol=1e-7
    )


def test_what_does_not_fit_is_named(bare, tmp_path):
    def refused(message, *changes, start=bare.root):
        recipe = tiny("training.iterations=1", f"training.start_from={start}", *changes)
        with pytest.raises(UserError, match=message):
            run(tmp_path / "run", recipe)
        assert not (tmp_path / "run" / "weights.safetensors").exists()

    refused(
        r"weights\.safetensors: .*fc6\.bias has shape \(8,\), expected \(9,\)",
        "detector.box_head_width=9",
    )
    refused(r"expected a file, got '.*nowhere'", start=tmp_path / "nowhere")
    refused(r"not a run folder \(no labels\.json\)", start=tmp_path)
    (tmp_path / "text.pth").write_text("no state dict")
    refused(
        r"training\.start_from: .*text\.pth is not a plain state dict", start=tmp_path / "text.pth"
    )
    other = RunFolder(tmp_path / "other")
    other.root.mkdir()
    labels = json.loads(bare.labels.read_text())
    other.labels.write_text(json.dumps(labels[:-1]))
    for strict in ("training.exact_weights=true", "training.freeze=detector"):
        refused(r"labels\.json: the run was trained on other classes", strict, start=other.root)


def started(recipe, where, names, **options):
    """A detector of classes of these names, before and after it starts from weights."""
    torch.manual_seed(5)
    detector = build_run_detector(recipe, len(names))
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    categories = [Category(number, name) for number, name in enumerate(names, 7)]
    start_from(detector, where, categories, **options)
    return before, detector.state_dict()


CLASS_LAYERS = (
    "network.roi_heads.box_predictor.cls_score",
    "network.roi_heads.box_predictor.bbox_p",
)
PREDICTORS = "roi_heads.box_predictor.cls_score, roi_heads.box_predictor.bbox_pred"


def check_renewed(before, after, source):
    """The layers of the classes are as before, all others are those of the source."""
    for name, tensor in after.items():
        expected = before if name.startswith(CLASS_LAYERS) else source
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("what", ["root", "weights", "checkpoint"])
@pytest.mark.parametrize(("names", "why"), [("abc", "6 -> 4 outputs"), ("abcde", "other classes")])
def test_a_run_of_other_classes_starts_all_but_their_layers(trained_run, caplog, what, names, why):
    folder = RunFolder(trained_run)
    before, after = started(tiny(), getattr(folder, what), names)
    check_renewed(before, after, weights_of(folder))
    source = getattr(folder, what) if what != "root" else folder.weights
    assert caplog.messages == [f"{source}: renewed: {PREDICTORS} ({why})"]


def test_a_run_of_the_same_classes_starts_all_layers_whatever_their_ids_are(trained_run, caplog):
    folder = RunFolder(trained_run)
    names = [category.name for category in read_categories(folder)]
    _, after = started(tiny(), folder.root, names)
    theirs = weights_of(folder)
    assert all(torch.equal(after[name], theirs[name]) for name in after)
    assert caplog.messages == []
    before, after = started(tiny(), folder.root, names[::-1])
    check_renewed(before, after, theirs)


def test_the_kl_loss_goes_on_from_edges_without_variances(tmp_path, caplog):
    """The new layer keeps its initial weights. In a frozen detector it would stay random."""
    edges = tiny("detector.box_coding=edges")
    source = build_run_detector(edges, 3).state_dict()
    torch.save(source, tmp_path / "edges.pth")
    recipe = override(edges, {"detector.box_loss": "kl"})
    before, after = started(recipe, tmp_path / "edges.pth", "abc")
    for name, tensor in after.items():
        expected = before if "bbox_pred_std" in name else source
        assert torch.equal(tensor, expected[name]), name
    layer = "roi_heads.box_predictor.bbox_pred_std"
    assert caplog.messages == [f"{tmp_path / 'edges.pth'}: initial: {layer} (not in the file)"]
    with pytest.raises(UserError, match=r"bbox_pred_std\.weight is missing"):
        started(recipe, tmp_path / "edges.pth", "abc", exact=True)
    start = {"training.start_from": str(tmp_path / "edges.pth"), "training.freeze": "detector"}
    frozen = override(recipe, start)
    with pytest.raises(UserError, match=r"bbox_pred_std\.weight is missing"):
        started(frozen, tmp_path / "edges.pth", "abc")


def test_a_stage_without_a_place_is_named(trained_run, caplog):
    folder = RunFolder(trained_run)
    names = [category.name for category in read_categories(folder)]
    for options in ({}, {"exact": True}):
        _, after = started(tiny("stage=null"), folder.root, names, **options)
        assert torch.equal(
            *(part["network.rpn.head.cls_logits.bias"] for part in (after, weights_of(folder)))
        )
    count = len(weights_of(folder, "stage."))
    assert caplog.messages == [f"{folder.weights}: unused: the stage ({count} tensors)"] * 2


HEADS = ("heads.iou.width=8", "heads.density.width=8")
OUTPUTS = "renewed: iou.output, density.output"


def test_heads_of_other_classes_start_all_but_the_layers_of_these(trained_run, tmp_path, caplog):
    """A run of heads on scenes, whose classes have five names."""
    start = shutil.copytree(trained_run, tmp_path / "start")
    trained = build_run_detector(tiny(*HEADS), 5).state_dict()
    save_tensors(RunFolder(start).weights, {f"model.{k}": v for k, v in trained.items()}, {})
    for names, why in (("abc", "5 -> 3 outputs"), ("abcde", "other classes")):
        caplog.clear()
        before, after = started(tiny(*HEADS), start, names)
        for name in filter(lambda name: name.startswith("heads."), after):
            expected = before if ".output." in name else trained
            assert torch.equal(after[name], expected[name]), name
        assert f"; heads: {OUTPUTS} ({why})" in caplog.text


def test_each_head_is_started_by_itself(tmp_path, caplog):
    """A head may be added to a run of another head, or left out."""
    both, one = tiny(*HEADS), tiny(HEADS[0])
    for source, recipe, note in (
        (one, both, "initial: density.output, density.trunk.fc6, density.trunk.fc7 (not in the"),
        (both, one, "unused: density.output, density.trunk (6 tensors)"),
    ):
        caplog.clear()
        trained = build_run_detector(source, 3).state_dict()
        torch.save(trained, tmp_path / "whole.pth")
        before, after = started(recipe, tmp_path / "whole.pth", "abc")
        for name, tensor in after.items():
            assert torch.equal(tensor, trained.get(name, before[name])), name
        assert f"whole.pth: heads: {note}" in caplog.text
    damaged = {name: value for name, value in trained.items() if "iou.trunk" not in name}
    torch.save(damaged, tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"heads: the weights .* iou\.trunk\.fc6\.weight"):
        started(both, tmp_path / "whole.pth", "abc")


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_state_dict_of_a_whole_detector_starts_its_stage_too(trained_run, tmp_path, prefix):
    theirs = weights_of(RunFolder(trained_run))
    torch.save({prefix + name: value for name, value in theirs.items()}, tmp_path / "whole.pth")
    before, after = started(tiny(), tmp_path / "whole.pth", "abc")
    check_renewed(before, after, theirs)
    with pytest.raises(UserError, match=r"cls_score\.weight has shape \(6, 8\), expected \(4, 8\)"):
        started(tiny(), tmp_path / "whole.pth", "abc", exact=True)


def test_a_wrong_network_is_an_error_also_where_classes_differ(trained_run):
    wrong = "detector.backbone.name=timm/mobilenetv2_110d"  # It is deeper.
    with pytest.raises(UserError, match=r"backbone\.body\.network\.blocks\.1\.2\.\S+ is missing; "):
        started(tiny(wrong), trained_run, "abc")
    other = tiny("detector.anchor_sizes=[8,16,32,64,128]", "detector.aspect_ratios=[1]")
    with pytest.raises(UserError, match=r"rpn\.head\..* has shape"):
        started(other, trained_run, "abc")


def test_training_goes_on_from_other_classes_and_is_loaded_again(trained_run, tmp_path, caplog):
    start = shutil.copytree(trained_run, tmp_path / "start")
    labels = RunFolder(start).labels
    labels.write_text(labels.read_text().replace("disc", "disk"))
    detector = run(tmp_path / "run", tiny("training.iterations=1", f"training.start_from={start}"))
    assert f"renewed: {PREDICTORS} (other classes)" in caplog.text
    loaded = load_detector(RunFolder(tmp_path / "run"))
    mine, theirs = detector.state_dict(), loaded.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
