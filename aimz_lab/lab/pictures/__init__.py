"""Still pictures and summaries of a run.

In: a run, or an object with one, such as a history. Out: figures, PNGs, HTML and text.
"""
