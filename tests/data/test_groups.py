"""Groups of rows: from a column or labels to a number for each row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aimz_lab.data.groups import group_labels
from aimz_lab.errors import ArgumentError, DataError

FRAME = pd.DataFrame(
    {"clinic": ["b", "a", "b", "a"], "sex": [0, 1, 0, 1], "gap": ["x", None, "x", "y"]}
)


def test_columns_and_labels_become_codes_with_the_names_of_levels():
    clinic, sex = group_labels(["clinic", FRAME.sex], FRAME)
    assert (clinic.name, sex.name) == ("clinic", "sex")
    assert clinic.labels.tolist() == ["a", "b"]
    assert clinic.codes.tolist() == [1, 0, 1, 0]
    ordered = pd.Categorical(["high", "low"], categories=["low", "high"])
    assert group_labels({"dose": ordered}, None)[0].labels.tolist() == ["low", "high"]
    assert group_labels(np.array([3, 3, 1]), None)[0].name == "group"


@pytest.mark.parametrize(
    ("by", "error", "said"),
    [
        ("ward", ArgumentError, "no column of that name.*clinic, sex, gap"),
        ("gap", DataError, "misses the labels of 1 of 4 rows, first of row 1"),
        (["a", "b", "a"], ArgumentError, "no column"),
        ([FRAME.sex, FRAME.sex], ArgumentError, "a name of its own"),
        (np.arange(3), DataError, "labels for 3 rows; the table has 4"),
        (FRAME, ArgumentError, "a whole table"),
    ],
)
def test_what_makes_no_groups_is_refused_by_name(by, error, said):
    with pytest.raises(error, match=said):
        group_labels(by, FRAME)
