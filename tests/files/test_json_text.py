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
    checksum_of,
    parse_json,
    plain_number,
    read_sealed,
    sealed_text,
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


@pytest.mark.slow
@given(content=st.dictionaries(st.text(st.characters(codec="ascii")), PLAIN, min_size=1))
def test_what_is_sealed_comes_back(content):
    content.pop("sha256", None)
    content["n"] = 1
    for indent in (None, 2):
        text = sealed_text(content, indent=indent)
        assert unsealed(text) == content
        assert json.loads(text) == {"sha256": checksum_of(text), **content}


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
    long, many, text = tmp_path / "long", tmp_path / "many", tmp_path / "text"
    with long.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    many.write_bytes(sealed_text({"a": 1})[:78] + b"[" + b"0," * (8 << 20) + b"0]")
    text.write_bytes(sealed_text({"a": 1}) + b" " * (24 << 20))
    tracemalloc.start()
    for path, what in ((long, "bytes"), (many, "values"), (text, "checksum")):
        with pytest.raises(Malformed, match=what):
            read_sealed(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_what_would_not_be_read_is_not_written():
    with pytest.raises(Malformed, match="at most 100 are read"):
        sealed_text({"a": list(range(200))}, limits=Limits(values=100))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"a": 1}', b'{"a": 1, "sha256": "x"}'])
def test_what_does_not_begin_with_a_checksum_is_refused(data):
    with pytest.raises(Malformed, match="begin with a checksum"):
        unsealed(data)


def test_every_bit_of_a_text_counts():
    text = sealed_text({"n": 12, "name": "a", "rate": 0.5}, indent=1)
    for i in range(8 * len(text)):
        changed = bytearray(text)
        changed[i // 8] ^= 1 << i % 8
        with pytest.raises(Malformed, match="checksum"):
            unsealed(bytes(changed))
