"""Still pictures and summaries of a run.

In: a run or its saved history. Out: figures, HTML and text.
"""
