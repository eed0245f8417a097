"""JSON values are read as what they should be, and refused by the name of the field."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.errors import ArtifactError
from aimz_lab.files import Malformed, Value, refusing


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (Value.whole, [0, 7, 2**53], [-1, 1.0, True, "1", None, 2**53 + 1, [1]]),
        (Value.number, [0, -1.5], [True, "nan", "1", None, [], {}]),
        (Value.flag, [True, False], [0, 1, "true", None]),
        (Value.text, ["", "x"], [0, None, ["x"]]),
        (Value.shape, [[], [2, 0]], [[-1], [1.0], "3", None, [2**31 - 1] * 3, [1] * 40]),
        (Value.names, [[], ["a", "b"]], [["a", "a"], [1], "a", {"a": 1}]),
        (Value.named, [{}, {"a": 1}], [[], None, "a"]),
        (
            Value.dtype,
            ["float32", "<f4", "bool", "bfloat16", "int4"],
            ["object", "O", "V8", "S3", "U2", ">f4", "f4,f4", "(2,)f4", "float", "x", "", 3, None],
        ),
    ],
)
def test_each_type_takes_its_own_values_alone(read, good, bad):
    for value in good:
        read(Value(value))
    for value in bad:
        with pytest.raises(Malformed, match=r"a\.b.* is .*; expected"):
            read(Value(value, "a.b"))


def test_numbers_that_json_lacks_are_text():
    read = [Value(text).number(finite=False) for text in ("nan", "inf", "-inf")]
    np.testing.assert_array_equal(read, [np.nan, np.inf, -np.inf])
    with pytest.raises(Malformed, match="number"):
        Value("infinity").number(finite=False)


def test_fields_are_these_and_no_others():
    value = Value({"a": {"b": 1}})
    assert value.fields("a")["a"].fields("b")["b"].whole() == 1
    with pytest.raises(Malformed, match="'c' is missing in a"):
        value.fields("a")["a"].fields("b", "c")
    with pytest.raises(Malformed, match="'b' in a is not known"):
        value.fields("a")["a"].fields()


def test_a_message_is_short_whatever_the_value_is():
    deep = []
    for _ in range(5_000):
        deep = [deep]
    for value in ("x" * 10**6, list(range(10**5)), deep):
        with pytest.raises(Malformed) as caught:
            Value(value, "field").whole()
        assert len(str(caught.value)) < 300


def test_only_refusals_and_failures_of_reading_become_errors():
    """A mistake in the code stays visible."""
    for cause in (Malformed("n is missing"), OSError("no disk"), MemoryError()):
        with (
            pytest.raises(ArtifactError, match="the file: ") as caught,
            refusing("the file", ArtifactError),
        ):
            raise cause
        assert caught.value.__cause__ is cause
    with pytest.raises(KeyError), refusing("the file", ArtifactError):
        raise KeyError("n")
