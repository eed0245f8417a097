"""Inference: training by SVI, Markov chains, and the runs of both.

In: a kernel, an inference object and a :class:`~aimz_lab.inference.request.FitRequest`.
Out: :class:`~aimz_lab.inference.request.FitResult`: state, parameters, losses and draws.
"""
