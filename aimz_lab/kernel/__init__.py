"""Describe the user's kernel: its sites, its arguments, and the weights of its rows.

In: a NumPyro function and the arguments of one call. Out: a ``KernelSpec`` and the row weights of
the ELBO, or an error that says why the kernel cannot be used.
"""
