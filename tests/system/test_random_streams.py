"""Random numbers of the package are not those that data was simulated with."""

from __future__ import annotations

import numpy as np

from aimz_lab.system.random_streams import own_rng


def test_a_stream_is_the_same_each_time_and_unlike_others():
    first = own_rng("rows").random(100)
    np.testing.assert_array_equal(first, own_rng("rows").random(100))
    for other in (own_rng("columns"), own_rng("rows", 1), np.random.default_rng(0)):
        assert abs(np.corrcoef(first, other.random(100))[0, 1]) < 0.3
