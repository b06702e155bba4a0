"""What holds for every experiment at one site: where data lie, how long jobs run. Imports neither torch nor timm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dctkd.errors import InputError, did_you_mean, shown
from dctkd.yaml_text import read_yaml

SITE_FILE = Path("profiles/site.yaml")
"""Relative to the working folder; it need not be there."""

SITE_KEYS = (
    "data_root",
    "device",
    "students_per_job",
    "job_hours",
    "checkpoint_every_s",
    "wait_limit_s",
    "shared_results",
    "latency_s",
    "stage_to",
    "stage_limit_gb",
)
"""Keys of an experiment that say how it runs, not what it computes: no run's identity depends on them."""


def with_site(raw: Mapping[str, Any], file: Path = SITE_FILE) -> dict[str, Any]:
    """Return an experiment's mapping with the site's keys where it does not give its own.

    Args:
        raw: The mapping, as YAML gives it; what it says, null too, goes before what the site says.
        file: The site's file.

    Raises:
        InputError: If the site's file is no mapping or holds a key that could change results.
    """
    if not file.exists():
        return dict(raw)
    site = read_yaml(file)
    if strangers := sorted(str(key) for key in site if key not in SITE_KEYS):
        raise InputError(
            f"{file}: {shown(strangers[0], quote='')}: only keys that change no result belong here"
            f"{did_you_mean(strangers[0], SITE_KEYS)}"
        )
    return {**site, **raw}
