"""Training: what is learned on a toy set, one seed gives one rescorer, and bad input is refused."""

import re

import pytest
import torch

from postnms.analysis.comparison import compare
from postnms.analysis.study import open_study
from postnms.candidate_files import open_candidates, open_truth
from postnms.errors import UserError
from postnms.files.tensor_files import load_tensors
from postnms.rescoring import (
    ContextualConfig,
    RelationConfig,
    SCEConfig,
    rescore,
    train_rescorer,
)
from tests.support.rescoring import (
    TINY,
    TINY_RELATION,
    TINY_SCE,
    duplicates,
    found,
    write_dump,
    write_truth,
)

LEARN = {
    "contextual": ContextualConfig(hidden=16, layers=1, batch_size=8, epochs=25, lr=0.02),
    "sce": SCEConfig(hidden=8, width=16, attention=4, epochs=3, drop_after=2, lr=0.1),
    "relation": RelationConfig(
        width=16, heads=2, keys=8, positive_weight=1, epochs=20, drop_after=15, lr=0.01
    ),
}
TINIES = {
    "contextual": ContextualConfig(**TINY),
    "sce": SCEConfig(**TINY_SCE),
    "relation": RelationConfig(**TINY_RELATION),
}


@pytest.mark.parametrize("kind", LEARN)
def test_duplicates_are_pushed_down(tmp_path, kind):
    """NMS leaves a duplicate of each object, of another form, which often scores more."""
    file, truth = duplicates(tmp_path)
    steps = []
    rescorer = train_rescorer(file, truth, LEARN[kind], done=steps.append)
    assert sum(steps) == LEARN[kind].passes * len(file)
    out = tmp_path / "out.safetensors"
    rescore(rescorer, file, truth, out)
    rows = compare(open_study(out, tmp_path / "instances_train.json"), [], bootstrap=0)
    precision = {row.name: row.figures["AP"] for row in rows}
    assert precision["nms"] < 80
    assert precision[f"run {kind}"] > precision["nms"] + 15


@pytest.mark.parametrize("config", TINIES.values(), ids=TINIES)
def test_one_seed_gives_one_file_whatever_was_drawn_before(tmp_path, config):
    file, truth = duplicates(tmp_path, images=6)
    files = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)
        drawn = torch.get_rng_state()
        train_rescorer(file, truth, config, seed=seed).save(tmp_path / "r.safetensors")
        assert torch.equal(torch.get_rng_state(), drawn)
        tensors, about = load_tensors(tmp_path / "r.safetensors")
        files.append((about, {name: tensor.tolist() for name, tensor in tensors.items()}))
    assert files[0] == files[1]
    assert files[0][1].keys() == files[2][1].keys()
    # A bias may begin at 0 and, if a softmax does not see it, stay there.
    names = [name for name in files[0][1] if "bias" not in name]
    assert all(files[0][1][name] != files[2][1][name] for name in names)


def test_each_training_image_counts_and_images_without_boxes_do_no_harm(tmp_path):
    boxes = [[(0, 4, 4, 20, 20)], [], [(1, 30, 30, 20, 20)]]
    write_truth(tmp_path / "instances_train.json", boxes)
    file = write_dump(tmp_path / "c.safetensors", [found([4, 0]), found([3], seed=1)])
    truth = open_truth(file, tmp_path)
    for config in TINIES.values():
        rescorer = train_rescorer(file, truth, config)
        assert all(bool(p.isfinite().all()) for p in rescorer.network.parameters())


@pytest.mark.parametrize(("facts", "wanted"), [({}, 0.5), ({"nms_threshold": 0.6}, 0.6)])
def test_the_suppressor_is_that_of_the_file_and_stays(tmp_path, facts, wanted):
    write_truth(tmp_path / "instances_train.json", [[(0, 4, 4, 20, 20)]])
    file = write_dump(tmp_path / "c.safetensors", [found([4])], **{"nms_threshold": 0.5} | facts)
    truth = open_truth(file, tmp_path)
    rescorer = train_rescorer(file, truth, ContextualConfig(**TINY))
    assert rescorer.config.suppressor == f"nms:iou_threshold={wanted}"


def refused(file, truth, config):
    with pytest.raises(UserError) as error:
        train_rescorer(file, truth, config)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(file.path), "DUMP")


def test_what_cannot_be_trained_on_is_refused(tmp_path):
    tiny = ContextualConfig(**TINY)
    write_truth(tmp_path / "instances_train.json", [[(0, 4, 4, 20, 20)]])
    file = write_dump(tmp_path / "c.safetensors", [found([4], extra={})])
    truth = open_truth(file, tmp_path)
    assert refused(file, truth, SCEConfig()) == (
        "DUMP: no column 'box_features', which sce needs; 'postnms dump RUN --features' writes it"
    )
    assert "'box_features', which relation needs" in refused(file, truth, RelationConfig())
    voting = ContextualConfig(suppressor="variance_voting")
    assert "needs the extra column 'edge_log_variance'" in refused(file, truth, voting)
    empty = write_dump(tmp_path / "e.safetensors", [found([0], extra={})])
    assert refused(empty, truth, tiny) == (
        "DUMP: expected at least one candidate to train on, got none"
    )
    none = write_dump(tmp_path / "n.safetensors", [])
    assert refused(none, truth, tiny) == "DUMP: expected at least one image to train on, got none"
    odd = write_dump(tmp_path / "o.safetensors", [found([4])], nms_threshold="x")
    assert refused(odd, truth, tiny).startswith("DUMP: provenance.nms_threshold: ")
    flat = found([4], extra={"box_features": torch.zeros(4)})
    flat = write_dump(tmp_path / "f.safetensors", [flat])
    assert "expected 1 to 65536 numbers for each candidate" in refused(flat, truth, SCEConfig())
    whole = write_dump(tmp_path / "w.safetensors", [found([4])])
    lost = refused(whole, truth, SCEConfig(**TINY_SCE | {"lr": 1e30, "epochs": 3}))
    assert re.match("training has diverged: a loss is .*; lower lr, which is 1e[+]30", lost), lost


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            ContextualConfig(**TINY, suppressor="nms:score_threshold=0.99"),
            "at least one detection to train on, got none that nms:score_threshold=0.99 leaves "
            "outside of crowd regions",
        ),
        (
            SCEConfig(**TINY_SCE, min_score=0.99),
            "at least one box to train stage 1 of sce on, got none with a score of min_score=0.99 "
            "or more outside of crowd regions",
        ),
        (SCEConfig(**TINY_SCE, min_score=0.75), "at least one box to train stage 2 of sce on, "),
        (
            RelationConfig(**TINY_RELATION, min_score=0.99),
            "at least one box to train relation on, got none with a score of min_score=0.99 or "
            "more outside of crowd regions",
        ),
    ],
)
def test_a_rescorer_that_would_learn_nothing_is_refused(tmp_path, config, message):
    file, truth = duplicates(tmp_path, images=6)
    assert refused(file, truth, config).startswith(f"DUMP: expected {message}")


def test_images_without_a_size_are_refused(tmp_path):
    write_truth(tmp_path / "instances_train.json", [[(0, 4, 4, 20, 20)]], sized=False)
    file = write_dump(tmp_path / "c.safetensors", [found([4])])
    truth = open_truth(file, tmp_path)
    assert "images[0].height: expected an integer >= 1" in refused(file, truth, SCEConfig())


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ContextualConfig, {"suppressor": "nsm"}, "suppressor: no 'nsm' (did you mean 'nmw'?)"),
        (ContextualConfig, {"epoch": 3}, "x.epoch: no such field (did you mean 'epochs'?)"),
        (ContextualConfig, {"hidden": 0}, "x.hidden: "),
        (SCEConfig, {"min_score": 0}, "x.min_score: "),
        (SCEConfig, {"positive_weights": [1]}, "x.positive_weights"),
        (RelationConfig, {"width": 100}, "x: width: expected a multiple of heads=16, got 100"),
        (RelationConfig, {"keys": 8}, "x: keys: expected a multiple of heads=16, got 8"),
        (RelationConfig, {"thresholds": []}, "x.thresholds: "),
    ],
)
def test_wrong_settings_are_refused(kind, values, message):
    with pytest.raises(UserError) as error:
        kind.parse(values, "x")
    assert message in str(error.value)


def test_a_reopened_dump_trains_the_same(tmp_path):
    file, truth = duplicates(tmp_path, images=3)
    again = open_candidates(file.path)
    config = SCEConfig(**TINY_SCE)
    for a, b in zip(
        train_rescorer(file, truth, config).network.parameters(),
        train_rescorer(again, truth, config).network.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)
