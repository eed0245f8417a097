"""Which measures of an effect can work for a site, so that no other is offered."""

from __future__ import annotations

from collections.abc import Sequence

from aimz_lab.effects.measures import NO_EFFECT, Contrast, Measure, name_of
from aimz_lab.effects.outcome_names import check_measured
from aimz_lab.effects.sweep import average_sites
from aimz_lab.errors import DataError
from aimz_lab.kernel.output_transform import TRANSFORM
from aimz_lab.lab.explorers.effect_question import ALL_ROWS
from aimz_lab.lab.explorers.scenario_averages import ScenarioAverages, Settings
from aimz_lab.predictive.level_sites import level_numbers
from aimz_lab.system.lazy_modules import xr


def measures_by_site(
    averages: ScenarioAverages,
    scenarios: tuple[Settings, Settings],
    moved: Sequence[str],
    contrast: Contrast,
) -> dict[str, list[str]]:
    """Return the names of the measures that can work, by site.

    An odds ratio needs flags or probabilities. A ratio, or a percentage, needs a baseline whose
    averages have one sign in all draws; either scenario may become the baseline. Of an output of
    which the kernel observes a function there are differences alone.

    Args:
        averages: Computes the scenarios.
        scenarios: The two to begin with.
        moved: Sites that are set, of which there is no effect.
        contrast: The measure that was asked for, which is always offered.

    Raises:
        ArgumentError: If the model has no draws, or no site is left; or if the contrast is not one
            of the output, of which the kernel observes a function.
    """
    averages.begin()
    pair = averages.pair(*scenarios, ALL_ROWS, None, "difference")
    both = [average_sites(each, *moved) for each in pair]
    check_measured(pair[0].attrs, both[0], contrast)
    shares = _shares(averages, scenarios[1], both, moved)
    names = {**dict.fromkeys(NO_EFFECT), name_of(contrast): None}
    found = {}
    for site in map(str, both[0]):
        can = {"difference", name_of(contrast)}
        has_ratio = not level_numbers(pair[0].attrs, site) and any(
            _has_ratio(each[site]) for each in both
        )
        can |= {"ratio", "percent"} if has_ratio else set()
        can |= {"odds_ratio"} if site in shares else set()
        if site == pair[0].attrs.get("output") and TRANSFORM in pair[0].attrs:
            can -= {"ratio", "percent", "odds_ratio"}
        found[site] = [name for name in names if name in can]
    return found


def _has_ratio(average: xr.DataArray) -> bool:
    """Whether something can be divided by an average, in each draw."""
    values = average.values.reshape(-1, *average.shape[2:])
    try:
        Measure("ratio")(str(average.name), values, values)
    except DataError:
        return False
    return True


def _shares(
    averages: ScenarioAverages, settings: Settings, both: Sequence[xr.Dataset], moved: Sequence[str]
) -> set[str]:
    """Return the sites whose values are all between 0 and 1."""
    likely = {
        str(site)
        for site in both[0]
        if all(bool(((each[site] >= 0) & (each[site] <= 1)).all()) for each in both)
    }
    if not likely:  # which spares a prediction
        return set()
    found = average_sites(averages.of(settings, ALL_ROWS, None, "odds_ratio"), *moved)
    return {site for site in likely if not found[site].isnull().any()}
