"""`dctkd doctor`: what is wrong with a machine, an installation, a working folder or an experiment, and what mends it.

A group of checks is a module with `CHECKS`, a tuple of functions from `Surroundings` to findings; `examine.GROUPS`
names the modules. A check only looks: it writes nothing, and what it raises becomes a finding.
"""
