"""Datasets: from photographs, or rendered scenes, to batches.

    formats -> manifest -> packing -> cache -> batches

`prepare.prepare` does all but the last arrow. This package knows nothing of methods, models or training. Importing it
loads neither torch nor PIL nor numpy: a Snakefile that every cluster job parses imports it.
"""

RESULTS_VERSION = 1
"""Bumped in the commit that changes the bits of a cache or of a batch."""
