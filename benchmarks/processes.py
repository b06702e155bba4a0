"""Jobs as processes: run some at once, and tell their rate together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.outcome import Outcome

REPOSITORY = Path(__file__).parents[1]
LIMIT_S = 1200
"""A job that takes longer has failed."""


@dataclass(frozen=True)
class Rate:
    """Of one or several jobs at once.

    Attributes:
        training: Images per second, summed over students and jobs, of the training loop alone.
        whole: The same over the life of the processes: with imports, building the networks, and (ours) the final test.
        start_s: Seconds of the first job that are no training.
    """

    training: float
    whole: float
    start_s: float


def run_at_once(jobs: Sequence[Sequence[str]], *, threads: int) -> Rate:
    """Run jobs at once and return their rate together.

    Args:
        jobs: For each, a module of benchmarks.peers and its arguments.
        threads: OpenMP threads of each.

    Raises:
        RuntimeError: If a job fails, with the end of what it wrote.
        subprocess.TimeoutExpired: If one takes longer than LIMIT_S.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.peers.{module}", *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for module, *arguments in jobs
    ]
    try:
        outputs = [process.communicate(timeout=LIMIT_S) for process in running]
    finally:
        for process in running:
            process.kill()  # does nothing to one that has ended
    whole_s = time.perf_counter() - started
    for process, (_, errors), job in zip(running, outputs, jobs, strict=True):
        if process.returncode:
            raise RuntimeError(f"the job {' '.join(job)} failed with status {process.returncode}: {errors[-2000:]}")
    return rate_of([Outcome.of_output(text) for text, _ in outputs], whole_s)


def rate_of(outcomes: Sequence[Outcome], whole_s: float) -> Rate:
    """Return the rate of jobs that ran at once for `whole_s` seconds."""
    images = sum(outcome.student_images for outcome in outcomes)
    training = sum(outcome.student_images / outcome.train_s for outcome in outcomes)
    return Rate(training, images / whole_s, whole_s - outcomes[0].train_s)
