"""How long Snakemake takes to plan experiments of growing size: `snakemake --dry-run --quiet`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.processes import REPOSITORY
from benchmarks.results import Section, Table
from benchmarks.settings import Setting
from benchmarks.workbench import TINY, experiment_of

REPEATS = 3
PAPER = (9, 20)
"""Combinations of dataset and pair, and methods, of the paper experiment."""
SIZES = ((1, 11, 3), (*PAPER, 3), (*PAPER, 11), (*PAPER, 55))
"""Combinations, methods, seeds: runs of the demo, of the paper experiment, and of that with more seeds."""


def measure_dag(setting: Setting) -> Section:
    """Time dry runs, and count their runs and jobs."""
    rows = []
    times: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as name:
        for combinations, methods, seeds in SIZES[:1] if setting.is_quick else SIZES:
            num_runs = combinations * methods * seeds
            file = Path(name) / f"runs{num_runs}.yaml"
            file.write_text(yaml.safe_dump(experiment_of_size(combinations, methods, seeds), sort_keys=False))
            seconds = float(np.median([_dry_run(file)[0] for _ in range(setting.repeats(REPEATS))]))
            times.append((num_runs, seconds))
            rows.append((f"{num_runs:,}", f"{num_jobs(_dry_run(file, 'rules')[1]):,}", f"{seconds:.2f}"))
    about = (
        "`snakemake --dry-run --quiet --cores 2`, from start to end, nothing trained yet; medians. "
        f"{growth(times)} The rows: the demo's 33 runs, the paper experiment's 540, and that with more seeds."
    )
    return Section(
        "Planning: a dry run by the number of runs", about, tables=(Table(("runs", "jobs", "seconds"), tuple(rows)),)
    )


def experiment_of_size(combinations: int, methods: int, seeds: int) -> dict[str, Any]:
    """Return an experiment with so many combinations of dataset and pair: three pairs per dataset if that divides."""
    raw = experiment_of(TINY, {f"row{n}": {"method": "at", "weight": n + 1} for n in range(methods)}, threads=1)
    num_pairs = 3 if combinations % 3 == 0 else 1
    datasets = {f"data{n}": raw["datasets"]["scenes"] for n in range(combinations // num_pairs)}
    models = {"teacher": raw["models"]["teacher"]} | {f"student{n}": raw["models"]["student"] for n in range(num_pairs)}
    pairs = [{"teacher": "teacher", "student": f"student{n}"} for n in range(num_pairs)]
    return {**raw, "datasets": datasets, "models": models, "pairs": pairs, "seeds": list(range(seeds))}


def num_jobs(text: str) -> int:
    """Return the number of jobs that a dry run lists.

    Raises:
        ValueError: If it lists none.
    """
    found = re.search(r"^total\s+(\d+)$", text, flags=re.MULTILINE)
    if found is None:
        raise ValueError(f"snakemake --dry-run listed no jobs: {text[-500:]}")
    return int(found[1])


def growth(times: list[tuple[int, float]]) -> str:
    """Say what each further run costs, between the second size and the largest."""
    if len(times) < 3:
        return ""
    (few, start_s), (many, end_s) = times[1], times[-1]
    return f"Each further run costs {1000 * (end_s - start_s) / (many - few):.2f} ms."


def _dry_run(file: Path, quiet: str = "all") -> tuple[float, str]:
    """Return the seconds and what it printed."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--workflow-profile"]
    command += [REPOSITORY / "profiles/default", "--cores", "2", "--dry-run", "--quiet", quiet, "--configfile", file]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    started = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], cwd=file.parent, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"snakemake --dry-run failed with status {done.returncode}: {done.stderr[-2000:]}")
    return seconds, done.stdout + done.stderr
