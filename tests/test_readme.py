"""The README's Python code runs as it stands."""

from __future__ import annotations

import re

import pytest


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
def test_its_example_runs(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
