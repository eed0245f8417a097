"""May the rows of a call be cut? Proofs of it, and checks of what is indexed.

In: a traced kernel and its arguments. Out: whether rows are independent, or a ``DataError``.
"""
