"""One experiment by several methods: which there are, their runs, the results.

Invariant: a comparison is many systems side by side and knows of each only
what any user of a system may know.
"""
