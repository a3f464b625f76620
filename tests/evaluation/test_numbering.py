"""Figures do not depend on ids: any ids of images, categories and annotations give equal ones."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.data.formats.coco import read_truth
from postnms.evaluation.bootstrap import resampled_precisions
from postnms.evaluation.duplicates import rank_duplicates
from postnms.evaluation.matching import match_results
from postnms.evaluation.metrics import coco_metrics
from postnms.evaluation.numbering import image_positions
from postnms.evaluation.tide import error_types, find_errors
from tests.support.coco import as_truth
from tests.support.plain_loops import problems

MOST_IMAGES = 4
integers = st.integers(-3, 3) | st.integers(2**53 - 1, 2**53 + 3) | st.integers()
texts = st.sampled_from(["0", "1", "01", "a/b.jpg"]) | st.text()
image_ids = st.lists(integers, min_size=MOST_IMAGES, max_size=MOST_IMAGES, unique=True) | st.lists(
    integers | texts, min_size=MOST_IMAGES, max_size=MOST_IMAGES, unique=True
)


def with_ids(truth, results, images, categories, annotations):
    """Return content and results with other ids, each a list in the order of the content."""
    content = truth.content
    image = dict(zip((entry["id"] for entry in content["images"]), images, strict=False))
    category = dict(zip((e["id"] for e in content["categories"]), categories, strict=True))

    def moved(entry):
        there = {
            "image_id": image[entry["image_id"]],
            "category_id": category[entry["category_id"]],
        }
        return entry | there

    changed = {
        "images": [{"id": image[entry["id"]]} for entry in content["images"]],
        "categories": [entry | {"id": category[entry["id"]]} for entry in content["categories"]],
        "annotations": [
            moved(entry) | {"id": number}
            for entry, number in zip(content["annotations"], annotations, strict=False)
        ],
    }
    return changed, [moved(entry) for entry in results]


def figures(truth, results):
    """Return all figures that are measured on results, as text, in which NaN equals NaN."""
    matching = match_results(truth, results)
    ranked = rank_duplicates(matching, find_errors(matching))
    return [
        str(coco_metrics(truth, results)),
        str(resampled_precisions(matching, 4, 0).tolist()),
        str(error_types(truth, results)),
        str((ranked.max_recall, ranked.rate(0.5))),
    ]


@st.composite
def spelled(draw, value):
    """Write whole numbers as floats at random, where a float holds them."""
    if isinstance(value, dict):
        return {name: draw(spelled(part)) for name, part in value.items()}
    if isinstance(value, list):
        return [draw(spelled(part)) for part in value]
    is_small = type(value) is int and abs(value) <= 2**53
    return float(value) if is_small and draw(st.booleans()) else value


@given(st.data(), problems(MOST_IMAGES), image_ids)
@settings(max_examples=80, deadline=None)
def test_any_ids_give_the_figures_of_1_to_n(tmp_path_factory, data, case, ids):
    truth, results = case
    images = ids[: len(truth.images)]
    # Ranks if all ids are integers, places in the file otherwise.
    order = images if any(isinstance(i, str) for i in images) else sorted(images)
    categories = data.draw(st.lists(integers, min_size=3, max_size=3, unique=True))
    count = len(truth.annotations)
    own = data.draw(
        st.lists(integers | texts, min_size=count, max_size=count, unique=True)
        | st.just([None] * count)
    )
    plain, plain_results = with_ids(
        truth,
        results,
        [1 + order.index(image) for image in images],
        [1 + sorted(categories).index(number) for number in categories],
        range(1, count + 1),
    )
    odd, odd_results = with_ids(truth, results, images, categories, own)
    path = tmp_path_factory.mktemp("odd") / "a.json"
    path.write_text(json.dumps(data.draw(spelled(odd))))
    read = read_truth(path)
    assert [entry["id"] for entry in read.images] == images
    assert figures(read, odd_results) == figures(as_truth(plain), plain_results)


@pytest.mark.parametrize(
    ("ids", "order"),
    [
        ([], []),
        ([7, -1, 2**70, 0], [-1, 0, 7, 2**70]),
        (["b", "a", "10", "9"], ["b", "a", "10", "9"]),
        ([3, "1", 1, 2], [3, "1", 1, 2]),
    ],
)
def test_numbers_are_measured_in_rising_order_and_strings_in_that_of_the_file(ids, order):
    content = {"images": [{"id": i} for i in ids], "categories": [], "annotations": []}
    positions = image_positions(as_truth(content))
    assert positions == {image_id: position for position, image_id in enumerate(order)}
