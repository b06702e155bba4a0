"""Where the files of an experiment lie: below results/, or in the copy of it that a job without that folder has."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path("results")
SHARED = ("store", "cache")
"""Folders of results/ that travel through no object storage: all jobs must see the same ones."""


def results_of(plan_file: Path) -> Path:
    """Return the results folder that a plan belongs to: results/, or a job's copy of it.

    Example:
        >>> results_of(Path(".snakemake/storage/s3/bucket/results/demo/plan.json")).as_posix()
        '.snakemake/storage/s3/bucket/results'
        >>> results_of(Path("plan.json")).as_posix()
        'results'
    """
    folder = plan_file.parent.parent
    return folder if folder.name == RESULTS.name else RESULTS
