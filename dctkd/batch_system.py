"""A job that its batch system warns of the end of its time asks to be queued again. Imports no torch.

The warning is SIGUSR1, which SLURM sends with `--signal=USR1@SECONDS`. By then the job has saved everything; queued
again under its own number it goes on from there, and Snakemake, which watches that number, only sees it wait and run.
Where that is not possible the job ends with status 75, and Snakemake's next attempt goes on.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import time

logger = logging.getLogger(__name__)

MAX_REQUEUES = 100
"""A job that was queued again so often gets nowhere: its time limit is shorter than its start."""

GRACE_S = 60.0
"""How long to wait for the end that SLURM makes of a job that it queues again."""

ASKING_S = 30.0


def requeue_this_job() -> bool:
    """Have SLURM queue the job again that this process belongs to; does not return if that succeeds.

    Returns:
        False if this is no SLURM job, or SLURM refuses; the log says why.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return False
    shown = _ask("scontrol", "show", "job", "--oneliner", job)
    restarts = re.search(r"\bRestarts=(\d+)", shown or "")
    if shown is None or restarts is None or "Requeue=1" not in shown:
        logger.info("SLURM job %s cannot be queued again; Snakemake's next attempt goes on", job)
        return False
    if int(restarts[1]) >= MAX_REQUEUES:
        logger.error("SLURM job %s was queued again %s times; give it more time (job_hours)", job, restarts[1])
        return False
    logger.info("SLURM job %s: its time is nearly over, it is saved and queued again", job)
    if _ask("scontrol", "requeue", job) is None:
        return False
    time.sleep(GRACE_S)  # to end now would be a failure in the eyes of SLURM, before it has queued the job again
    return False


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASKING_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s: %s", " ".join(command), error)
        return None
    if done.returncode:
        logger.warning("%s: %s", " ".join(command), done.stderr.strip() or f"status {done.returncode}")
        return None
    return done.stdout
