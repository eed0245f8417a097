"""The command line ``aimz-lab`` and its tour of a first model on real data.

In: the options of the command. Out: the printed answer, and the first tutorial as an HTML page.
"""
