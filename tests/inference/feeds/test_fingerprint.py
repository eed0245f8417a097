"""Rows of a training are known again, and not mistaken for new rows that equal them by chance."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint


def rows_of(values):
    return {"X": values[:, :1], "y": values[:, 1]}


@pytest.fixture
def alike(rng):
    """Rows of which a few in a hundred equal another one, as rows of small counts do."""
    same = rng.random(1_000) < 0.06
    values = rng.normal(size=(1_000, 2)).astype(np.float32)
    values[same] = rng.integers(0, 2, (same.sum(), 2))
    return values


def test_new_rows_that_equal_some_by_chance_are_no_training_rows(alike):
    trained = TrainingFingerprint.of(rows_of(alike[:800]), "y")
    new = rows_of(alike[800:])
    known = set(map(tuple, alike[:800].tolist()))
    assert any(tuple(row) in known for row in alike[800:].tolist())
    assert trained.count_of(new) == 0
    assert trained.count_of(rows_of(alike[:200])) == 200


def test_a_single_row_is_known_where_no_two_are_alike(rng):
    values = rng.normal(size=(400, 2)).astype(np.float32)
    trained = TrainingFingerprint.of(rows_of(values[:300]), "y")
    assert trained.count_of(rows_of(values[300:])) == 0
    assert trained.count_of(rows_of(values[299:])) == 1


def test_rows_of_a_scaled_table_are_known_in_single_precision_too(rng):
    years = rng.uniform(2000, 2020, 2_000)
    ages, pay = rng.normal(40, 12, 2_000), rng.lognormal(10, 1, 2_000)

    def encoded(dtype, *columns):
        table = np.stack(columns, 1)
        scaled = (table.astype(dtype).astype(np.float64) - table.mean(0)) / table.std(0)
        return rows_of(scaled.astype(np.float32))

    usual = TrainingFingerprint.of(encoded(np.float64, ages, pay), "y")
    assert usual.count_of(encoded(np.float32, ages, pay)) > 0.99 * 2_000
    far_from_0 = TrainingFingerprint.of(encoded(np.float64, years, pay), "y")
    assert far_from_0.count_of(encoded(np.float32, years, pay)) > 0.9 * 2_000


def test_codes_of_many_levels_are_told_apart():
    codes = np.arange(100_000, 100_400)
    trained = TrainingFingerprint.of({"group": codes[::2], "y": np.ones(200)}, "y")
    assert trained.count_of({"group": codes[1::2], "y": np.ones(200)}) == 0
    assert trained.count_of({"group": codes[::2].astype(np.float32), "y": np.ones(200)}) == 200


def test_some_rows_of_training_are_recognised_unless_others_may_be_alike():
    values = np.random.default_rng(0).normal(size=(300, 3))
    trained = TrainingFingerprint.of(rows_of(values), "y")
    assert trained.likeness(rows_of(values[[7, 7, 2]])) == (2, True, True)
    assert trained.likeness(rows_of(np.vstack([values[:9], values[:1] + 1]))) == (9, False, False)
    assert trained.has_all_rows(rows_of(values[::-1]))
    assert not trained.has_all_rows(rows_of(values[[0, 0, *range(2, len(values))]]))
    alike = TrainingFingerprint.of(rows_of(np.resize([0.0, 1.0], (300, 3))), "y")
    assert alike.likeness(rows_of(np.resize([0.0, 1.0], (20, 3)))) == (0, True, False)


def test_rows_that_were_chosen_for_their_likeness_are_no_training_rows(alike):
    """A few in a hundred new rows equal a training row, and somebody may look at these alone."""
    trained = TrainingFingerprint.of(rows_of(alike[:800]), "y")
    known = set(map(tuple, alike[:800].tolist()))
    chosen = alike[800:][[tuple(row) in known for row in alike[800:].tolist()]]
    assert len(chosen) > 5
    assert trained.likeness(rows_of(chosen)) == (len(chosen), True, False)
    assert trained.likeness(rows_of(alike[:200])) == (200, True, True)
    assert trained.likeness(rows_of(alike[:800][::-1])) == (800, True, True)
    both = trained.likeness(rows_of(np.vstack([alike[:800], chosen])))
    assert both == (800, True, False)  # no more than there are


def test_each_training_row_counts_once_among_rows_of_few_values(rng):
    values = rng.integers(0, [40, 2], (1_500, 2)).astype(np.float32)
    trained = TrainingFingerprint.of(rows_of(values[:1_200]), "y")
    assert trained.count_of(rows_of(values[1_200:])) == 0
    odd = rng.integers(0, [9_999, 2], (1_500, 2)).astype(np.float32)
    trained = TrainingFingerprint.of(rows_of(odd[:1_200]), "y")
    assert trained.count_of(rows_of(odd)) == 1_200


def test_how_data_differs_from_that_of_the_training_is_said():
    values = np.random.default_rng(0).normal(size=(300, 3))
    trained = TrainingFingerprint.of(rows_of(values), "y")
    for rows, said in [
        (values, ""),
        (values[::-1], "these 300 rows are in another order"),
        (values[:9], "these 9 rows are not all of them"),
        (values + 1, "these 300 rows are others"),
        (values[[7, 7]], "these 2 rows are not all of them"),
    ]:
        assert trained.difference(rows_of(rows), "y") == said
    few = np.resize([0.0, 1.0], (300, 3))
    of_few = TrainingFingerprint.of(rows_of(few), "y")
    assert of_few.difference(rows_of(few[:9]), "y").endswith("others, or not all of them")
    loaded = trained.without_rows()
    assert loaded.difference(rows_of(values[::-1]), "y").endswith(
        "rows are others, or in another order"
    )


def test_training_rows_are_known_by_columns_that_tell_them_apart(rng):
    """A constant and a treatment that alternates are the same in other rows too."""
    first, other = rng.normal(size=(2, 300))
    alternates = np.resize([0, 1], 300)

    def rows(age, treat, pay):
        return {"X": np.stack([np.ones(300), age, treat], 1), "y": pay}

    made = rows(first, alternates, alternates)
    trained = TrainingFingerprint.of(made, "y", by_column=True)
    assert trained.is_of_changed(rows(first, np.ones(300), other))
    assert not trained.is_of_changed(rows(other, alternates, alternates))
    assert not trained.is_of_changed(rows(first[::-1], alternates, alternates))
    assert not trained.is_of_changed(rows(other, first, alternates))  # in another place
    by_outcome = TrainingFingerprint.of(rows(first, alternates, first), "y", by_column=True)
    assert by_outcome.is_of_changed(rows(other, np.ones(300), first))
    assert not TrainingFingerprint.of(made, "y").is_of_changed(made)
