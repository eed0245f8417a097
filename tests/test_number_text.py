"""Numbers are written with the digits that their spread or their limit leaves to see."""

from __future__ import annotations

import math

import pytest

from aimz_lab.number_text import beside_limit, number, number_beside, numbers_alike, numbers_of_row


class TestNumbersBesideTheirSpread:
    @pytest.mark.parametrize("spread", [0.0651, 0.0996, 3.0, 400.0, 1e-3])
    @pytest.mark.parametrize("value", [1182.123456, -0.034567, 12.5, 0.0])
    def test_two_digits_of_the_spread_are_seen(self, value, spread):
        written = float(number_beside(value, spread).replace(",", ""))
        assert abs(written - value) <= 0.06 * spread
        assert number_beside(value, spread, 3) == number(value, 3) or spread < abs(value)

    @pytest.mark.parametrize("spread", [math.nan, math.inf, 0.0, -1.0, 1e-9])
    def test_no_spread_and_rounding_ask_for_no_digits(self, spread):
        assert number_beside(1182.04, spread) == "1,182"
        assert numbers_alike([1182.04, 9.5], [spread]) == ["1,182", "10"]

    def test_a_row_knows_whose_spread_is_whose(self):
        row = {"prior_mean": 1182.04, "prior_sd": 0.065, "low": 1181.04, "high": 1181.07}
        row |= {"observed": 1182.0433, "observed_se": 40.0, "mean": 1182.04, "r_hat": 1.0012}
        assert numbers_of_row(row) == [
            "1,182.040", "0.065", "1,181.040", "1,181.070", "1,182.043", "40", "1,182.040", "1.001"
        ]  # fmt: skip


@pytest.mark.parametrize(("value", "limit"), [(1.010_000_1, 1.01), (0.299_99, 0.3), (0.5, 0.5)])
def test_a_value_and_its_limit_look_alike_only_if_they_are(value, limit):
    told, held_against = map(float, beside_limit(value, limit))
    assert (told > held_against, told < held_against) == (value > limit, value < limit)
