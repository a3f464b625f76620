"""The file of a rescorer: read as it was written, and refused where it is another file."""

import pytest
import torch

from postnms.errors import UserError
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.rescoring import load_rescorer
from tests.support.rescoring import CLASSES, found, sizes, tiny_rescorer, write_dump


@pytest.mark.parametrize("kind", ["sce", "contextual", "relation"])
def test_a_rescorer_is_read_as_it_was_written(tmp_path, kind):
    path = tmp_path / "r.safetensors"
    rescorer = tiny_rescorer(kind)
    rescorer.save(path)
    again = load_rescorer(path)
    assert (again.kind, again.classes) == (kind, CLASSES)
    assert again.config == rescorer.config
    assert again.provenance == {"seed": 5}
    candidates = found([5, 9])
    mine, other = (each(candidates, sizes(2)) for each in (rescorer, again))
    assert torch.equal(mine.scores, other.scores)
    assert torch.equal(mine.boxes, other.boxes)


def refused(path):
    with pytest.raises(UserError) as error:
        load_rescorer(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(f"{path}: ")


def test_what_is_no_rescorer_is_refused(tmp_path):
    path = tmp_path / "r.safetensors"
    expected = "expected a rescorer that 'postnms train-rescorer' has written"
    assert refused(path) == f"no such file; {expected}"
    path.write_text("{}")
    assert refused(path).endswith(f"; {expected}")
    write_dump(path, [found([3])])
    other = "expected format 'postnms-2', got 'postnms-candidates-1'"
    assert refused(path) == f"{other}; {expected}"
    save_tensors(path, {"weight": torch.zeros(3)}, {"recipe": "demo"})
    assert refused(path).endswith("has written, got other tensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rescorer": "sec"}, "has written, got rescorer: 'sec'"),
        ({"rescorer": ["sce"]}, "has written, got rescorer: ['sce']"),
        ({"config": 3}, "config: expected an object, got 3"),
        ({"config": {"hiden": 3}}, "config.hiden: no such field (did you mean 'hidden'?)"),
        ({"config": {"hidden": 2}}, "the weights do not fit the model: "),
        ({"classes": []}, "classes: expected names, got []"),
        ({"classes": ["a", 3]}, "classes: expected names, got ['a', 3]"),
        ({"classes": ["a"]}, "the weights do not fit the model: "),
        ({"feature_width": -1}, "feature_width: expected an integer from 0 to 65536, got -1"),
        ({"feature_width": True}, "feature_width: expected an integer from 0 to 65536, got True"),
        ({"feature_width": 4}, "the weights do not fit the model: "),
        ({"provenance": None}, "provenance: expected an object, got None"),
    ],
)
def test_facts_of_another_form_are_refused(tmp_path, changes, message):
    path = tmp_path / "r.safetensors"
    tiny_rescorer("sce").save(path)
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | changes)
    assert message in refused(path)


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    def refusal(rescorer, file):
        with pytest.raises(UserError) as error:
            rescorer.check_fits(file)
        return str(error.value).replace(str(file.path), "DUMP")

    path = tmp_path / "c.safetensors"
    file = write_dump(path, [found([3])], classes=("dot", "cell"))
    expected = "DUMP: classes: expected ['cell', 'dot'], those that the rescorer was trained on"
    assert refusal(tiny_rescorer(), file) == f"{expected}, got ['dot', 'cell']"
    file = write_dump(path, [found([3], features=2)])
    assert refusal(tiny_rescorer("sce"), file) == (
        "DUMP: box_features: expected 3 numbers for each candidate, as the rescorer was trained "
        "on, got 2"
    )
    tiny_rescorer().check_fits(file)
    file = write_dump(path, [found([3], extra={})])
    assert "no column 'box_features'" in refusal(tiny_rescorer("sce"), file)
    voting = tiny_rescorer(suppressor="variance_voting")
    assert "'edge_log_variance'" in refusal(voting, file)
