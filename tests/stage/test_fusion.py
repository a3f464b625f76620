"""Fusions as texts."""

import pytest

from postnms.errors import UserError
from postnms.stage.fusion import Fusion


@pytest.mark.parametrize(
    ("text", "fusion"),
    [
        ("0.8,0.1,0.1", Fusion((0.8, 0.1, 0.1))),
        ("arithmetic:1,0,0", Fusion((1.0, 0.0, 0.0))),
        ("geometric:0.5,0,0.5", Fusion((0.5, 0.0, 0.5), "geometric")),
    ],
)
def test_a_text_is_read_as_it_is_written(text, fusion):
    assert Fusion.parse(text) == fusion
    assert Fusion.parse(str(fusion)) == fusion


@pytest.mark.parametrize(
    "text",
    ["", "1,0", "1,0,0,0", "a,b,c", "harmonic:1,0,0", ":1,0,0", "nan,0,0", "0,inf,0", "0,0,-inf"],
)
def test_other_texts_are_refused(text):
    with pytest.raises(UserError, match=r"fusion: expected three finite weights, .*; got"):
        Fusion.parse(text)
