"""Whether a kernel computes row by row: proof on its jaxpr, test on rows; and index checks.

In: a kernel and its arguments. Out: whether rows are independent, or a ``DataError``.
"""
