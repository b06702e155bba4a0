"""How fast jobs are handed to a batch system through profiles/generic, and how many are open at a time.

The jobs only touch their outputs, while they are submitted (instant_job.py): what is timed is Snakemake and the
profile's scripts. An open job is one whose end Snakemake has not noticed yet.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.dag_speed import experiment_of_size
from benchmarks.processes import REPOSITORY
from benchmarks.results import Section, Table
from benchmarks.settings import Setting

SIZES = ((9, 20, 3, 20), (9, 20, 3, 1), (9, 20, 55, 20))
"""Combinations, methods, seeds, students per job: of the paper experiment, and of that with more seeds."""
QUICK_SIZES = ((1, 4, 2, 1),)
MOST_OPEN = 64


@dataclass(frozen=True)
class Submission:
    """What was seen of one call of Snakemake.

    Attributes:
        num_jobs: Jobs that were submitted.
        whole_s: From start to end, the planning included.
        jobs_per_s: Between the first and the last submission.
        most_open: Most jobs open at a time.
        peak_mib: Of the main process.
    """

    num_jobs: int
    whole_s: float
    jobs_per_s: float
    most_open: int
    peak_mib: float


def measure_submission(setting: Setting) -> Section:
    """Submit experiments of growing size."""
    rows = []
    for combinations, methods, seeds, students in QUICK_SIZES if setting.is_quick else SIZES:
        found = submit(combinations, methods, seeds, students_per_job=students)
        rows.append(
            (
                f"{combinations * methods * seeds:,}",
                str(students),
                f"{found.num_jobs:,}",
                f"{found.whole_s:.0f}",
                f"{found.jobs_per_s:.1f}",
                f"{found.most_open} of {MOST_OPEN}",
                f"{found.peak_mib:.0f}",
            )
        )
    header = ("runs", "students per job", "jobs", "seconds", "jobs/s", "most open", "MiB of Snakemake")
    about = (
        f"`--workflow-profile profiles/generic --jobs {MOST_OPEN}` over a made-up batch system whose jobs only "
        "touch their outputs, at once. Statuses are asked for every second, and more than the profile's two jobs per "
        "second may be submitted: this is what Snakemake and the profile's scripts can do. Seconds: from start to end."
    )
    return Section("Submitting jobs through the generic profile", about, tables=(Table(header, tuple(rows)),))


def submit(
    combinations: int, methods: int, seeds: int, *, students_per_job: int, at_most: int = MOST_OPEN
) -> Submission:
    """Run an experiment of such a size, with at most so many open jobs, which do nothing.

    Raises:
        RuntimeError: If Snakemake fails, with the end of what it wrote.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = experiment_of_size(combinations, methods, seeds) | {"students_per_job": students_per_job}
        (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        (folder / "profiles").symlink_to(REPOSITORY / "profiles")
        counts = folder / "counts"
        started = time.perf_counter()
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(_command(at_most), cwd=folder, env=_environment(counts), stdout=log, stderr=log)
            peak_mib = _wait(process)
        whole_s = time.perf_counter() - started
        if process.returncode:
            text = (folder / "log").read_text()[-2000:]
            raise RuntimeError(f"snakemake failed with status {process.returncode}: {text}")
        num_open = [int(line.split()[0]) for line in counts.read_text().splitlines()]
        times = [float(line.split()[1]) for line in counts.read_text().splitlines()]
        rate = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
        return Submission(len(times), whole_s, rate, max(num_open), peak_mib)


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a process and return the MiB that it had at most, by Linux's count."""
    peak_kib = 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        peak_kib = max(peak_kib, int(found[1]) if found else 0)  # none while the process is being ended
        time.sleep(0.1)
    return peak_kib / 1024


def _command(at_most: int) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--configfile"]
    command += ["experiment.yaml", "--workflow-profile", "profiles/generic", "--jobs", str(at_most), "--quiet", "all"]
    return [*command, "--seconds-between-status-checks", "1", "--max-jobs-per-timespan", "1000/1s"]


def _environment(counts: Path) -> dict[str, str]:
    here = Path(__file__).parent
    paths = {"DCTKD_SITE": here / "instant_site.sh", "INSTANT_JOB": here / "instant_job.py", "INSTANT_COUNTS": counts}
    path = f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    ours = {"INSTANT_PYTHON": sys.executable, "PYTHONPATH": path}
    return {**os.environ, **ours, **{key: str(value) for key, value in paths.items()}}
