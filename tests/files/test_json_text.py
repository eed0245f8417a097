"""JSON text is strict, within bounds, and has a checksum."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.files import (
    Limits,
    Malformed,
    json_text,
    parse_json,
    plain_number,
    read_json,
    sealed,
    unsealed,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(content=st.dictionaries(st.text().filter(lambda name: name != "sha256"), PLAIN))
def test_what_is_sealed_comes_back(content):
    for indent in (None, 2):
        text = json_text(sealed(content), indent=indent)
        assert unsealed(parse_json(text.encode())) == content


@given(number=st.floats())
def test_every_number_has_a_text(number):
    assert repr(float(plain_number(number))) == repr(number)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"[" * 200_000, "values"),
        (b"[" * 100_000 + b"]" * 100_000, "deep"),
        (b"[" * 65 + b"]" * 65, "64 deep"),
        (b'{"a": ' * 65 + b"1" + b"}" * 65, "64 deep"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "too large"),
        (b"[" + b"9" * 25 + b"]", "64 bits"),
        (b"[" + b"9" * 10_000 + b"]", "no JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        ('{"a": 1}'.encode("utf-16"), "no JSON"),
        (b'["\xff"]', "no JSON"),
        (b'["\\ud800"]', "no Unicode"),
        (b"", "no JSON"),
        (b"[1] 2", "no JSON"),
        (b"[" + b"0," * 100_000 + b"0]", "values"),
    ],
)
def test_what_is_no_strict_json_within_bounds_is_refused(data, what):
    limits = Limits(values=100_000 if what == "values" else 10**6)
    with pytest.raises(Malformed, match=what):
        parse_json(data, limits)


def test_a_large_file_is_refused_before_it_takes_memory(tmp_path):
    long, many = tmp_path / "long", tmp_path / "many"
    with long.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    many.write_bytes(b"[" + b"0," * (8 << 20) + b"0]")
    tracemalloc.start()
    for path in (long, many):
        with pytest.raises(Malformed, match="at most"):
            read_json(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("value", [[], 3, "x", None, {}, {"a": 1}, {"a": 1, "sha256": None}])
def test_what_has_no_checksum_that_fits_is_refused(value):
    with pytest.raises(Malformed, match=r"checksum|object"):
        unsealed(value)


def test_every_bit_of_a_text_counts():
    text = json_text(sealed({"n": 12, "name": "a", "rate": 0.5})).encode()
    content = json.loads(text)
    for i in range(8 * len(text)):
        changed = bytearray(text)
        changed[i // 8] ^= 1 << i % 8
        try:
            value = parse_json(bytes(changed))
            unsealed(value)
        except Malformed:
            continue
        assert value == content
