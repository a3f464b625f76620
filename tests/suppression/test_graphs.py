"""Suppressors in graphs: all of them in one graph, with the results that they have elsewhere."""

import dataclasses
from typing import ClassVar

import pytest
import torch

from postnms.suppression import SUPPRESSORS
from postnms.suppression.protocol import Suppressor
from tests.support.builders import random_candidates

COLUMNS = ("boxes", "scores", "labels", "image", "source")


class KeepFew(Suppressor):
    """A suppressor of another library, with a setting of its own."""

    needs_probabilities: ClassVar[bool] = True
    most: int = 1

    def suppress(self, ranked):
        from postnms.suppression.protocol import kept_as_they_are

        return kept_as_they_are(ranked, torch.arange(min(self.most, len(ranked))))


def assert_equal(found, expected):
    assert found.num_images == expected.num_images
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in COLUMNS)
    assert found.extra.keys() == expected.extra.keys()
    for name, column in expected.extra.items():
        assert torch.equal(found.extra[name], column)


def test_all_suppressors_compile_into_one_graph_for_any_number_of_candidates():
    torch._dynamo.reset()

    def all_of_them(candidates):
        return [suppressor(candidates, backend="eager") for suppressor in SUPPRESSORS.values()]

    graph = torch.compile(all_of_them, fullgraph=True, dynamic=True, backend="eager")
    for count in (40, 0):
        candidates = random_candidates(count)
        for found, expected in zip(graph(candidates), all_of_them(candidates), strict=True):
            assert_equal(found, expected)


def test_a_graph_that_breaks_at_a_suppressor_ends():
    torch._dynamo.reset()
    suppressor = SUPPRESSORS["soft_nms_linear"]
    candidates = random_candidates(30)
    found = torch.compile(lambda given: suppressor(given), backend="eager")(candidates)
    assert_equal(found, suppressor(candidates))


def test_a_suppressor_of_a_user_keeps_its_settings_in_a_graph():
    torch._dynamo.reset()
    suppressor = KeepFew(most=3, max_detections=2, score_threshold=0.2)
    graph = torch.compile(suppressor.limited, fullgraph=True, dynamic=True, backend="aot_eager")
    for images in (1, 2):
        candidates = random_candidates(30, images)
        (found, cut), (expected, expected_cut) = graph(candidates), suppressor.limited(candidates)
        assert_equal(found, expected)
        assert torch.equal(cut, expected_cut)


def test_a_class_inside_a_function_is_refused():
    class Hidden(KeepFew):
        pass

    torch._dynamo.reset()
    graph = torch.compile(Hidden(), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"expected a class of a module in a graph, got .*Hidden"):
        graph(random_candidates(5))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("boxes", float("nan"), "Candidates.boxes: expected finite values"),
        ("scores", float("inf"), "Candidates.scores: expected finite values"),
        ("labels", -1, "Candidates.labels: expected values >= 0"),
        ("image", 2, "Candidates.image: expected values from 0"),
    ],
)
def test_a_graph_checks_values_when_it_runs(column, value, message):
    torch._dynamo.reset()
    suppressor = SUPPRESSORS["nms"]

    def changed(candidates, columns):
        return suppressor(dataclasses.replace(candidates, **columns)).scores

    graph = torch.compile(changed, fullgraph=True, dynamic=True, backend="eager")
    candidates = random_candidates(6, extra=False)
    wrong = getattr(candidates, column).clone()
    assert torch.equal(graph(candidates, {column: wrong}), suppressor(candidates).scores)
    wrong[3] = value
    with pytest.raises(RuntimeError, match=message):
        graph(candidates, {column: wrong})


def test_registration_is_sound():
    found = random_candidates(30)
    columns = [getattr(found, name) for name in COLUMNS]
    suppressor = SUPPRESSORS["box_voting"]
    kind = f"{type(suppressor).__module__}:{type(suppressor).__qualname__}"
    given = (*columns, list(found.extra), list(found.extra.values()), found.num_images)
    settings = (kind, suppressor.model_dump_json(), "")
    torch.library.opcheck(torch.ops.postnms.suppress.default, (*given, *settings))
