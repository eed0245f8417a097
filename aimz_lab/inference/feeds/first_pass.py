"""The first pass over a stream: how long it is, and whether that agrees with ``n_obs``."""

from __future__ import annotations

from typing import NamedTuple

from aimz_lab.kernel.scaling import DataSize

_SHARE = 0.01
"""Share of ``n_obs`` by which rows may differ: the posterior's width then differs by half of it."""


class FirstPass(NamedTuple):
    """What was read of the first epoch that is read from its beginning.

    Attributes:
        n_rows: Rows so far.
        n_batches: Batches so far; of several processes, steps.
        is_over: Whether it has ended.
    """

    n_rows: int = 0
    n_batches: int = 0
    is_over: bool = False

    def then(self, n_rows: int, n_batches: int = 1) -> FirstPass:
        """Return the pass after further batches; one that is over stays as it is."""
        if self.is_over:
            return self
        return FirstPass(self.n_rows + n_rows, self.n_batches + n_batches)

    def ended(self) -> FirstPass:
        """Return the pass at its end."""
        return self._replace(is_over=True)


def contradiction(size: DataSize, seen: FirstPass, *, by_kernel: bool = False) -> str:
    """Say how the rows of a pass contradict ``n_obs``; empty if they do not.

    The posterior is as wide as the rows make it for which the rows of an epoch stand together.

    Args:
        size: How many rows a batch was taken to stand for, with the weight of each row.
        seen: The pass so far.
        by_kernel: Whether the kernel scales its batches to ``n_obs`` rows itself.

    Example:
        >>> contradiction(DataSize(15_000, 150), FirstPass(1_500, 15, is_over=True))
        'An epoch of the stream has 1,500 rows, but n_obs is 15,000, and the posterior is as wide...
        >>> contradiction(DataSize(1_500, 15), FirstPass(1_500, 15, is_over=True))
        ''
    """
    n_obs, n_rows, n_batches = int(size.n_obs), seen.n_rows, seen.n_batches
    if not seen.is_over:
        return _has_gone_beyond(n_obs) if n_rows > (1 + _SHARE) * n_obs else ""
    weighed = size.row_weight * n_rows / n_batches
    weighs_right = abs(weighed - n_obs) <= _SHARE * n_obs
    if weighs_right and abs(n_rows - n_obs) <= _SHARE * n_obs:
        return ""
    of_kernel = "without the kernel's own scale and " if by_kernel else ""
    scale = f"fit again {of_kernel}with scale={n_obs * n_batches / n_rows:.6g}"
    if n_rows == n_obs:
        return (
            f"The rows of the stream weighed as {weighed:,.0f} rows, not as n_obs={n_obs:,}: an "
            f"epoch has them in {n_batches:,} batches, and was expected to have batches as long as "
            f"the first one, except the last. So that each row weighs right, {scale}."
        )
    number = ", the number in the kernel too" if by_kernel else ""
    how = "of which an epoch is a sample" if n_rows < n_obs else "which an epoch repeats"
    return (
        f"An epoch of the stream has {n_rows:,} rows, but n_obs is {n_obs:,}, and the posterior is "
        f"as wide as {weighed:,.0f} rows make it. If the epoch has all rows there are, fit again "
        f"with n_obs={n_rows:,}{number}. If there are {n_obs:,} rows, {how}, "
        f"{'this is right' if weighs_right else scale}."
    )


def _has_gone_beyond(n_obs: int) -> str:
    return (
        f"The first epoch of the stream has gone beyond n_obs={n_obs:,} rows and has not ended. "
        f"The posterior is as wide as {n_obs:,} rows make it. If there are more rows, fit again "
        "with n_obs= their number. If the stream repeats its rows, n_obs is right: end the epoch "
        "after them, or stop the run when its loss has settled."
    )
