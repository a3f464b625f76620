"""A short run of the harness: no damaged file and no invalid call gives a traceback.

A failure names the cases, and ``python -m tests.fuzz --case KIND NUMBER`` repeats one of them.
"""

import itertools
from collections import Counter

import pytest
import torch

from tests.fuzz.calls import BOXES, GROUPS, SCORES, VARIANTS
from tests.fuzz.cases import Cases, WrongResultError, rounds
from tests.fuzz.read_data import check_image, check_structure
from tests.fuzz.read_runs import check_state
from tests.fuzz.seeds import picture, write_seeds
from tests.fuzz.targets import KINDS
from tests.support.candidate_files import detections

SHORT = Counter(name for name, _ in itertools.islice(rounds(KINDS), 300))
"""How many cases of each kind the first 300 cases of a long run have."""


@pytest.fixture(scope="session")
def undamaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    write_seeds(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_in_one_line_or_changes_nothing(undamaged, tmp_path, kind):
    cases = Cases({kind: KINDS[kind]}, undamaged, tmp_path, seed=0)
    cases.check_undamaged()
    outcomes = [cases.run(kind, number) for number in range(SHORT[kind])]
    offences = [f"{o.number} {o.verdict}: {o.place}" for o in outcomes if o.is_offence]
    assert "\n".join(offences) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_decided_by_its_seed_and_number(undamaged, tmp_path, kind):
    def damaged(seed, number):
        cases = Cases({kind: KINDS[kind]}, undamaged, tmp_path, seed)
        file, content, _ = cases.damage(kind, number)
        assert content != (undamaged / kind / file).read_bytes()
        return file, content

    first = [damaged(0, number) for number in range(3)]
    assert [damaged(0, number) for number in range(3)] == first
    assert [damaged(0, number) for number in range(3, 6)] != first
    assert [damaged(1, number) for number in range(3)] != first


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_making_a_call_leaves_the_valid_arguments_as_they_are():
    before = [tensor.clone() for tensor in (BOXES, SCORES, GROUPS)]
    for variants in VARIANTS.values():
        for make in variants.values():
            make()
    for tensor, wanted in zip((BOXES, SCORES, GROUPS), before, strict=True):
        assert torch.equal(tensor, wanted)
        assert not tensor.requires_grad


BROKEN = {
    "a number": lambda state: state["x"].view(torch.int32).bitwise_xor_(1),
    "a dtype": lambda state: state.update(x=state["x"].view(torch.int32)),
    "a shape": lambda state: state.update(x=state["x"][None]),
    "a name": lambda state: state.update(y=state.pop("x")),
    "nothing there": lambda state: state.clear(),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_any_other_state_is_a_wrong_result(change):
    saved = {"x": torch.tensor([1.0, torch.nan])}
    state = {"x": saved["x"].clone()}
    check_state(state, saved)
    change(state)
    with pytest.raises(WrongResultError):
        check_state(state, saved)


def test_structures_that_do_not_fit_together_are_wrong_results():
    found = detections()
    check_structure(found, images=2, classes=3)
    for images, classes in ((3, 3), (2, 1)):
        with pytest.raises(WrongResultError):
            check_structure(found, images, classes)
    found.boxes[0, 0] = torch.nan
    with pytest.raises(WrongResultError, match="a box"):
        check_structure(found, images=2, classes=3)


def test_an_image_of_another_mode_is_a_wrong_result():
    check_image(picture())
    with pytest.raises(WrongResultError):
        check_image(picture("HSV"))
