"""A frozen detector learns the same whether it keeps what it gives for an image or not."""

import logging

import pytest
import torch

from postnms.detectors.frozen import FeatureMemory
from postnms.runs.folder import RunFolder
from postnms.runs.loading import build_run_detector
from postnms.training.phases import feature_memory
from tests.support.runs import run, tiny

STEPS = ("training.iterations=7", "training.steps=[6]", "data.augmentation.brightness=0")


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A function that trains the stage of one detector with further changes of the recipe."""
    bare = tmp_path_factory.mktemp("runs") / "bare"
    run(bare, tiny("stage=null", "training.iterations=2"))

    def train(folder, *changes):
        recipe = tiny(*STEPS, "training.freeze=detector", f"training.start_from={bare}", *changes)
        return run(folder, recipe).state_dict()

    return train


def test_the_weights_are_those_without_the_memory(frozen, tmp_path):
    plain = frozen(tmp_path / "none", "training.feature_memory=none")
    for kind in ("memory", "file"):
        kept = frozen(tmp_path / kind, f"training.feature_memory={kind}")
        for name, value in plain.items():
            torch.testing.assert_close(kept[name], value, rtol=1e-4, atol=1e-6)
        assert not [path for path in (tmp_path / kind).iterdir() if path.name.startswith("tmp")]


def memory_of(recipe, folder):
    freeze = {"training": recipe.training.model_copy(update={"start_from": None})}
    detector = build_run_detector(recipe.model_copy(update=freeze), 1)
    return feature_memory(detector, recipe, recipe.data.augmentation, RunFolder(folder))


def test_it_is_in_use_for_turned_images_of_a_frozen_detector_alone(caplog, tmp_path):
    frozen = ("training.freeze=detector", "training.start_from=weights.pth")
    assert memory_of(tiny(), tmp_path) is None
    assert memory_of(tiny(*frozen, "training.feature_memory=none"), tmp_path) is None
    turned = ("data.augmentation.transpose=0.5", "data.augmentation.brightness=0")
    assert memory_of(tiny(*frozen, *turned), tmp_path) is not None
    assert caplog.messages == []
    for change in ("brightness=0.1", "crop=0.5", "scale=[0.5,1.0]"):
        with caplog.at_level(logging.WARNING):
            changed = tiny(*frozen, *turned, f"data.augmentation.{change}")
            assert memory_of(changed, tmp_path) is None
    assert len(caplog.messages) == 3
    assert "data.augmentation changes more than the orientation" in caplog.text


def test_an_average_of_the_weights_does_not_copy_it(frozen, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the memory is copied")

    monkeypatch.setattr(FeatureMemory, "__deepcopy__", refuse, raising=False)
    frozen(tmp_path / "run", "training.average_decay=0.9", "training.iterations=1")
