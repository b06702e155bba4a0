"""Speed of this machine, as ratios from one process: `make bench`."""
