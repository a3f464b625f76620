"""Training on sequences of (image, target): the same run as on the same data from elsewhere."""

import json

import pytest
import torch

import postnms
from postnms.errors import UserError
from postnms.recipes import RECIPES
from postnms.runs.folder import RunFolder
from postnms.training.sequences import recipe_of
from tests.support.runs import logged, run, splits_of, tiny, weights_of

RECIPE = tiny("training.iterations=3", "training.checkpoint_every=1", "data.workers=1")


class Scenes:
    """The built-in scenes as torchvision's references have their data: labels count from 1."""

    def __init__(self, split, first=1):
        self.dataset, self.first = getattr(splits_of(RECIPE), split).dataset, first

    def __len__(self):
        return len(self.dataset.records)

    def __getitem__(self, index):
        record = self.dataset.records[index]
        areas = [a["area"] for a in self.dataset.truth.annotations if a["image_id"] == record.id]
        target = {
            "boxes": torch.from_numpy(record.boxes),
            "labels": torch.from_numpy(record.labels) + self.first,
            "iscrowd": torch.zeros(len(record.labels), dtype=torch.int64),
            "area": torch.tensor(areas),
        }
        return record.load(), target


def train(out, recipe=RECIPE, **options):
    data = Scenes("train"), Scenes("val")
    names = [category.name for category in data[0].dataset.categories]
    options = {"classes": names, "labels_from": 1, **options}
    return postnms.train(recipe, *data, out=out, **options)


def test_a_run_on_a_sequence_is_that_on_the_same_data_and_resumes(tmp_path):
    expected = run(tmp_path / "scenes", RECIPE)
    model, evaluation = train(tmp_path / "own")
    weights = weights_of(RunFolder(tmp_path / "own"))
    for name, value in expected.state_dict().items():
        assert torch.equal(value, weights[name]), name
    metrics = json.loads((tmp_path / "scenes" / "metrics.json").read_text())
    assert evaluation.to_json() == metrics
    assert json.loads((tmp_path / "own" / "metrics.json").read_text()) == metrics
    labels = json.loads((tmp_path / "own" / "labels.json").read_text())
    assert [entry["id"] for entry in labels] == [1, 2, 3, 4, 5]
    about = json.loads((tmp_path / "own" / "provenance.json").read_text())
    assert (about["data"], about["data_folder"]) == ("in memory", None)

    image = Scenes("val")[0][0]
    [found] = model.predict(image)
    [again] = postnms.load(tmp_path / "own", device="cpu").predict(image)
    assert found.boxes.tolist() == again.boxes.tolist()
    assert len(found) > 0

    before = logged(tmp_path / "own")
    longer = tiny(*("training.iterations=4", "training.checkpoint_every=1", "data.workers=1"))
    train(tmp_path / "own", longer, resume=True)
    after = logged(tmp_path / "own")
    assert {i: after[i] for i in before} == before
    assert max(after) == 4
    with pytest.raises(UserError, match="trained on other classes than those of the data"):
        train(tmp_path / "own", longer, resume=True, classes=["a", "b", "c", "d", "e"])


def test_eval_of_such_a_run_asks_for_data(tmp_path, postnms):
    train(tmp_path / "own", tiny("training.iterations=1", "data.workers=0"))
    status, _, errors = postnms("eval", tmp_path / "own")
    assert status == 2
    assert "--data: the recipe has no built-in data; name a folder" in errors


def test_a_recipe_is_a_name_a_file_or_a_run(tmp_path, trained_run):
    name = next(iter(RECIPES))
    assert recipe_of(name) == postnms.get_recipe(name)
    assert recipe_of(RECIPE) is RECIPE
    file = tmp_path / "my.json"
    file.write_text(json.dumps(RECIPE.model_dump(mode="json")))
    assert recipe_of(file) == recipe_of(str(file)) == RECIPE
    assert recipe_of(trained_run) == recipe_of(trained_run / "recipe.json")
    for wrong, message in (("demoo", "did you mean 'demo'"), (tmp_path / "no.json", "no such")):
        with pytest.raises(UserError, match=message):
            recipe_of(wrong)


def test_a_run_is_not_overwritten(tmp_path, trained_run):
    with pytest.raises(UserError, match=r"^out: holds a run already; pass resume=True"):
        train(trained_run)
    with pytest.raises(UserError, match=r"^out: expected a run to resume, got"):
        train(tmp_path, resume=True)
