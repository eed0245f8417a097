"""May the rows of a call be cut? Proofs and tests of it, and checks of indices.

In: a kernel and its arguments. Out: whether rows are independent, or a ``DataError``.
"""
