"""Columns of ids and texts give back exactly what went in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from postnms.data.ids import Ids, Texts

texts = st.lists(st.one_of(st.text(), st.sampled_from(["", "ö", "\ud800", "a\0b", "\U0001f600"])))
whole = st.one_of(st.integers(), st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1]))
ids = st.lists(st.one_of(whole, st.text(), st.none()))


@given(texts)
@settings(deadline=None)
def test_texts_come_back(given_texts):
    column = Texts.of(given_texts)
    assert list(column) == given_texts
    assert column[1:] == given_texts[1:]
    rows = np.arange(len(given_texts))[::-2]
    assert list(column.take(rows)) == [given_texts[row] for row in rows]


@given(st.one_of(ids, st.lists(st.integers(-5, 5))))
@settings(deadline=None)
def test_ids_come_back_with_their_types(given_ids):
    column = Ids.of(given_ids)
    for found in (list(column), column[:], [column[row] for row in range(len(column))]):
        assert found == given_ids
        assert [type(own) for own in found] == [type(own) for own in given_ids]
    rows = np.arange(len(given_ids))[::-2]
    assert list(column.take(rows)) == [given_ids[row] for row in rows]


def test_usual_ids_are_numbers_of_64_bits():
    assert Ids.of([3, -1]).values.dtype == np.int64
    assert isinstance(Ids.of([3, 2**63]).values, Texts)
