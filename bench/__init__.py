"""Measurements: `python -m bench [name…]` prints a table for each and writes `.testops/bench/NAME.json`.

Not tests: nothing here fails because a figure is missed. On a shared machine absolute figures move by a third; trust
CPU time and the ratios within one run.
"""
