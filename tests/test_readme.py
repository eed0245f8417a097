"""The README's Python code runs as it stands, and shows its pictures."""

from __future__ import annotations

import ast
import re

import pytest


@pytest.fixture(scope="module")
def blocks(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert found
    return found


def test_each_picture_is_shown_or_ends_its_block(blocks):
    for block in blocks:
        for statement in ast.parse(block).body[:-1]:
            # A figure in the midst of a cell is made and thrown away.
            assert not re.match(r"lab\.(plot|explore|loss_figure)", ast.unparse(statement))


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_its_example_runs(blocks):
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
