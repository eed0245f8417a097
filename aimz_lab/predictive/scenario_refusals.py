"""What is said of scenarios that hold a site as it was although they change it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aimz_lab.errors import ArgumentError, SiteError


def refuse_data(site: str, arguments: Collection[str], causes: Sequence[str]) -> None:
    """Refuse scenarios that hold a site at its data.

    Args:
        site: The site.
        arguments: What to leave out, for it to be drawn.
        causes: What differs and changes it.

    Raises:
        ArgumentError: Always; it says what to do.
    """
    names = ", ".join(map(repr, sorted(arguments)))
    msg = (
        f"{_differ(causes, site)}, which they hold at its data{', ' * bool(names)}{names}: the "
        f"effect that goes through {site!r} would be missing. For the whole effect, leave "
        f"{_left_out(arguments)}; {site!r} is then drawn. For the part that does not go through "
        f"{site!r}, pass intervention={{{site!r}: ...}} in all of them, in the kernel's units."
    )
    raise ArgumentError(msg)


def refuse_own_causes(site: str, both: Collection[str]) -> None:
    """Refuse arrays with data of a site and with causes of it.

    Args:
        site: The site.
        both: The arrays.

    Raises:
        ArgumentError: Always; it says what to do.
    """
    names = ", ".join(map(repr, sorted(both)))
    msg = (
        f"{_differ(both, site)}, whose data is in {names} too. For the whole effect, pass that "
        f"data as an argument of its own, and leave it out of all scenarios; {site!r} is then "
        f"drawn. For the part that does not go through {site!r}, or for an effect of {site!r}, "
        f"pass intervention={{{site!r}: ...}} in all of them, in the kernel's units."
    )
    raise ArgumentError(msg)


def refuse_joint_data(
    site: str, changed: Collection[str], held: Collection[str], drawn: Collection[str]
) -> None:
    """Refuse data of a site that follows from what differs and from other data.

    Args:
        site: The site.
        changed: What differs.
        held: The other data.
        drawn: Those of it that may be left out.

    Raises:
        ArgumentError: Always; it says what to do.
    """
    names, others = (", ".join(map(repr, sorted(each))) for each in (changed, held))
    how = f"Write {others} as a sample site that depends on {names}"
    if drawn:
        how = f"Leave {_left_out(drawn)}; {site!r} is then drawn"
    msg = (
        f"The data of site {site!r} is computed from {names}, which "
        f"{'differs' if len(changed) == 1 else 'differ'} between the scenarios, and from {others}, "
        f"which they hold: how {others} {'follows' if len(held) == 1 else 'follow'} {names} would "
        "be missing. "
        f"{how}. Or set the site itself: pass intervention={{{site!r}: ...}} in all of them, in "
        "the kernel's units."
    )
    raise ArgumentError(msg)


def refuse_given_to_some(site: str, arguments: Collection[str]) -> None:
    """Refuse scenarios of which some hold a site, and others draw it.

    Args:
        site: The site.
        arguments: Its data.

    Raises:
        ArgumentError: Always; it says what to do.
    """
    names = ", ".join(map(repr, sorted(arguments))) or "its data"
    msg = (
        f"Some scenarios hold site {site!r} at its data, and others draw it, so that they differ "
        f"in more than you ask. Give {names} to all scenarios, or to none (in a table, its column)."
    )
    raise ArgumentError(msg)


def refuse_term(site: str, kind: str, causes: Sequence[str], data: str) -> None:
    """Refuse a factor, or a site of no argument, that may be the density of a mediator.

    Args:
        site: The factor or site.
        kind: Which of both it is.
        causes: What differs and changes it.
        data: The argument that may be the mediator.

    Raises:
        ArgumentError: Always; it says what to do.
    """
    msg = (
        f"{_differ(causes, site, kind)}, which may be the log density of {data!r}, and what you "
        f"ask for is computed from {data!r} too. The effect that goes through {data!r} would be "
        "missing: what only a log density describes cannot be drawn. Write "
        f"numpyro.sample(..., obs={data}) in place of it, for data that may be None. For the whole "
        "effect, leave it out of all scenarios; for the part that does not go through it, set that "
        "site by intervention=. If it stays as it is whatever differs, as an offset or a limit "
        "does, pass held='keep' with each scenario."
    )
    raise ArgumentError(msg)


def refuse_fixed(site: str, causes: Sequence[str]) -> None:
    """Refuse a mediator that a handler of the kernel sets.

    Args:
        site: The site.
        causes: What differs and changes it.

    Raises:
        SiteError: Always; it says what to do.
    """
    msg = (
        f"{_differ(causes, site)}, which the kernel sets to a value of its own by a handler such "
        f"as numpyro.handlers.do or substitute: the effect that goes through {site!r} would be "
        "missing. For the whole effect, take that handler out of the kernel. For the part that "
        f"does not go through {site!r}, pass held='keep' with each scenario."
    )
    raise SiteError(msg)


def refuse_draws(site: str, causes: Sequence[str]) -> None:
    """Refuse posterior draws of a mediator.

    Args:
        site: The site.
        causes: What differs and changes it.

    Raises:
        SiteError: Always; it says what to do.
    """
    msg = (
        f"{_differ(causes, site)}, of which the posterior holds draws that do not know of it: the "
        f"effect that goes through {site!r} would be missing. Pass held='redraw' with each "
        f"scenario to draw {site!r} from the kernel, for the whole effect; or held='keep' to keep "
        "the draws, for the part that does not go through it."
    )
    raise SiteError(msg)


def _differ(causes: Sequence[str], site: str, kind: str = "site") -> str:
    verbs = ("differs", "changes") if len(causes) == 1 else ("differ", "change")
    names = ", ".join(map(repr, causes))
    return f"{names} {verbs[0]} between the scenarios and {verbs[1]} {kind} {site!r}"


def _left_out(names: Collection[str]) -> str:
    """Say what to leave out of all scenarios, and how if it is no argument of its own."""
    listed = ", ".join(map(repr, sorted(names))) or "that data"
    how = "of a table, its column" if all(map(str.isidentifier, names)) else "pass None for it"
    return f"{listed} out of all scenarios ({how})"
