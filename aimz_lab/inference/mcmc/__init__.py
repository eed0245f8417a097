"""Markov chain Monte Carlo: chains that run chunk by chunk.

In: all rows and an ``MCMC`` object. Out: draws by chain.
"""
