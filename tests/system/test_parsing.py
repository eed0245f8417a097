"""Source is parsed although other threads parse too."""

from __future__ import annotations

import ast

import pytest

from aimz_lab.system.parsing import parsed


def test_an_error_of_threads_that_parse_at_once_is_tried_again(monkeypatch):
    right, errors = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 2

    def parse(source):
        if errors:
            raise errors.pop()
        return right(source)

    monkeypatch.setattr(ast, "parse", parse)
    assert ast.unparse(parsed("a = 1")) == "a = 1"
    errors.extend([SystemError("AST constructor recursion depth mismatch")] * 9)
    with pytest.raises(SystemError):
        parsed("a = 1")
