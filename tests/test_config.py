"""Settings take the numbers of numpy as those of Python."""

import numpy as np
import pytest
from pydantic import ValidationError

from postnms.config import as_python
from postnms.errors import UserError
from postnms.suppression.greedy import NoSuppression


class Settings(NoSuppression):
    """Settings as any others. Those of a user's own suppressor are no part of a recipe."""

    share: float = 0.5
    count: int = 1
    flag: bool = False
    weights: tuple[float, float] = (1.0, 2.0)


FLOATS = (np.float16, np.float32, np.float64, np.longdouble)
INTEGERS = (np.uint8, np.int16, np.int32, np.int64)


@pytest.mark.parametrize("kind", FLOATS)
def test_a_float_of_numpy_is_a_float(kind):
    for settings in (Settings(share=kind(0.25)), Settings.parse({"share": kind(0.25)}, "s")):
        assert (settings.share, type(settings.share)) == (0.25, float)


@pytest.mark.parametrize("kind", INTEGERS)
def test_an_integer_of_numpy_is_an_integer(kind):
    for settings in (Settings(count=kind(7)), Settings.parse({"count": kind(7)}, "s")):
        assert (settings.count, type(settings.count)) == (7, int)
    assert Settings(share=kind(3)).share == 3.0


def test_bools_and_arrays_of_numpy_are_those_of_python():
    values = {"flag": np.bool_(True), "weights": np.array([3, 4], np.float32), "share": np.array(1)}
    for settings in (Settings(**values), Settings.parse(values, "s")):
        assert settings == Settings(flag=True, weights=(3.0, 4.0), share=1.0)
    assert Settings(weights=(np.float32(3), np.int64(4))).weights == (3.0, 4.0)
    nested = as_python({"a": [np.int64(1), (np.bool_(False), "b")], "c": np.ones((1, 2))})
    assert nested == {"a": [1, (False, "b")], "c": ((1.0, 1.0),)}


def test_json_still_holds_lists_for_tuples():
    assert Settings.model_validate_json('{"weights": [3, 4]}').weights == (3.0, 4.0)


def test_a_number_of_numpy_of_a_wrong_kind_is_refused():
    for wrong in ({"count": np.float64(1)}, {"flag": np.int64(1)}, {"share": np.bool_(True)}):
        with pytest.raises(ValidationError):
            Settings(**wrong)
        with pytest.raises(UserError, match=f"^s.{next(iter(wrong))}: "):
            Settings.parse(wrong, "s")


def test_what_no_setting_can_be_is_named():
    with pytest.raises(UserError, match=r"^s.weights.1: expected a number, .*, got object$"):
        Settings.parse({"weights": [1, object()]}, "s")
