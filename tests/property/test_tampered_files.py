"""Files that were changed at random are refused, or loaded as what they say.

``python -m tests.property.tamper`` tries thousands.
"""

from __future__ import annotations

import jax
import pytest

from tests.property.tamper import tally
from tests.property.tampering import GOOD, SUBJECTS

pytestmark = pytest.mark.allow_rank_promotion

# A model with the state of its training sets up its guide each time.
TRIED = {"model": 8, "draws": 40, "checkpoint": 60, "history": 120}


@pytest.fixture(scope="module", params=TRIED)
def subject(request, tmp_path_factory):
    name = request.param
    with jax.numpy_rank_promotion("allow"):
        return TRIED[name], SUBJECTS[name](tmp_path_factory.mktemp(name) / "files")


@pytest.mark.slow
@pytest.mark.parametrize("change", ["tamper", "damage"])
def test_a_changed_file_is_refused_or_loaded_as_what_it_says(subject, change):
    n, what = subject
    counts, bad = tally(what, n, 1, change)
    assert not bad
    assert set(counts) <= set(GOOD)
    assert counts["refused"] > n / 2
    if change == "damage":
        assert "as written" not in counts  # no checksum fits
