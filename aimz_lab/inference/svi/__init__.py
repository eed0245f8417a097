"""Stochastic variational inference: steps, their compilation, and runs of them.

In: training data and an ``SVI`` object. Out: parameters, losses and draws from the guide.
"""
