"""The facts about candidates: they come back, and every other form of them names the field."""

import json

import pytest

from postnms.candidate_files.metadata import About, read_about
from postnms.data.dataset import Category
from postnms.errors import UserError

GOOD = {
    "categories": [{"id": 3, "name": "y"}, {"id": 1, "name": "é"}],
    "annotations": "val.json",
    "provenance": {"commit": "abc", "recipe": {"lr": 0.5, "steps": [1, None]}},
    "milliseconds": {"nms": 2, "post_nms": 0.5},
}


def test_facts_come_back():
    about = read_about(json.dumps(GOOD), "about")
    assert about.categories == (Category(3, "y"), Category(1, "é"))
    assert about.annotations == "val.json"
    assert about.provenance == GOOD["provenance"]
    assert about.milliseconds == GOOD["milliseconds"]
    assert json.loads(about.to_text()) == GOOD
    bare = About((), None, {}, {})
    assert read_about(bare.to_text(), "about") == bare


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


OTHER = [
    ({"categories": ...}, r"categories: expected a list, got nothing"),
    ({"categories": {}}, r"categories: expected a list, got {}"),
    ({"categories": [3]}, r"categories\[0\]: expected an object, got int"),
    ({"categories": [{"name": "y"}]}, r"categories\[0\]\.id: expected an integer, got None"),
    ({"categories": [{"id": "3", "name": "y"}]}, r"categories\[0\]\.id: .*got '3'"),
    ({"categories": [{"id": 3, "name": 3}]}, r"categories\[0\]\.name: expected a string, got 3"),
    ({"categories": [{"id": 3}]}, r"categories\[0\]\.name: expected a string, got None"),
    ({"categories": [GOOD["categories"][0]] * 2}, r"categories\[1\]\.id: 3 is already that of"),
    ({"annotations": ...}, r"annotations: expected a name or null, got nothing"),
    ({"annotations": ["a"]}, r"annotations: expected a name or null, got \['a'\]"),
    ({"annotations": 3}, r"annotations: expected a name or null, got 3"),
    ({"provenance": None}, r"provenance: expected an object, got None"),
    ({"provenance": "x" * 10**6}, r"provenance: expected an object, got '.{,80}$"),
    ({"provenance": {"a": [float("nan")]}}, r"provenance\.a\[0\]: expected a finite number"),
    ({"provenance": {"a": nested(500)}}, r"provenance: expected at most 100 levels"),
    ({"milliseconds": []}, r"milliseconds: expected an object, got \[\]"),
    ({"milliseconds": {"nms": None}}, r"milliseconds\.nms: expected a number >= 0, got None"),
    ({"milliseconds": {"nms": -1}}, r"milliseconds\.nms: expected a number >= 0, got -1"),
    ({"milliseconds": {"nms": float("inf")}}, r"milliseconds\.nms: .*got inf"),
    ({"milliseconds": {"\x1b": "a"}}, r"milliseconds\.'\\x1b': expected a number"),
]


@pytest.mark.parametrize("number", range(len(OTHER)))
def test_another_form_names_the_field(number):
    change, message = OTHER[number]
    content = {name: value for name, value in (GOOD | change).items() if value is not ...}
    with pytest.raises(UserError, match=r"^about: " + message):
        read_about(json.dumps(content), "about")


def test_what_json_cannot_hold_is_no_fact():
    with pytest.raises(ValueError, match="JSON compliant"):
        About((), None, {"x": float("nan")}, {}).to_text()
