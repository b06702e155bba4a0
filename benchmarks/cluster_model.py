"""Jobs on a cluster, simulated: queue, start-up, submission and the noticing of ends, beside the seconds of training.

A GPU is held by one job from its submission until Snakemake has noticed its end, as `resources: gpu=N` has it. So a
job holds it for `queue + start-up + work + notice` seconds; paid for are start-up and work. Jobs go by priority, then
as planned. Jobs without a GPU (photographs, cost, tables) run beside them and are not paid for.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Delays:
    """What a job costs beside its work, in seconds.

    Attributes:
        queue_s: Between submission and start.
        start_s: Between start and work: Snakemake in the job, imports, networks, GPU.
        notice_s: Between the end of a job and Snakemake's knowing it.
        submit_s: Between two submissions.
    """

    queue_s: float
    start_s: float
    notice_s: float
    submit_s: float


@dataclass(frozen=True)
class ClusterJob:
    """A job that can be submitted when all those in `after` have ended.

    Attributes:
        name: Its own.
        work_s: Seconds of work.
        after: Names of others.
        has_gpu: Whether it holds a GPU.
        priority: As in the rules: the highest first.
    """

    name: str
    work_s: float
    after: frozenset[str] = frozenset()
    has_gpu: bool = True
    priority: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a simulated experiment took.

    Attributes:
        wall_s: Until the last job's end is noticed.
        gpu_s: Start-up and work of jobs with a GPU, summed.
        num_jobs: All.
    """

    wall_s: float
    gpu_s: float
    num_jobs: int


def simulate(jobs: Sequence[ClusterJob], num_gpus: int, delays: Delays) -> Outcome:
    """Run jobs on a cluster of which `num_gpus` GPUs are ours.

    Raises:
        ValueError: If a job waits for one that never ends.

    Example:
        >>> jobs = [ClusterJob("a", 10), ClusterJob("b", 10), ClusterJob("c", 1, frozenset("ab"), has_gpu=False)]
        >>> simulate(jobs, num_gpus=1, delays=Delays(queue_s=2, start_s=3, notice_s=1, submit_s=0)).wall_s
        39.0
    """
    waiting = sorted(jobs, key=lambda job: -job.priority)
    running: list[tuple[float, str, bool]] = []
    done: set[str] = set()
    now = next_submission = 0.0
    free = num_gpus
    while waiting or running:
        job = next((job for job in waiting if job.after <= done and (free or not job.has_gpu)), None)
        if job is not None:
            waiting.remove(job)
            submitted = max(now, next_submission)
            next_submission = submitted + delays.submit_s
            end = submitted + delays.queue_s + delays.start_s + job.work_s + delays.notice_s
            heapq.heappush(running, (end, job.name, job.has_gpu))
            free -= job.has_gpu
            continue
        if not running:
            raise ValueError(f"no job can start: {waiting[0].name} waits for {sorted(waiting[0].after - done)}")
        now, name, has_gpu = heapq.heappop(running)
        done.add(name)
        free += has_gpu
    gpu_s = sum(delays.start_s + job.work_s for job in jobs if job.has_gpu)
    return Outcome(now, gpu_s, len(jobs))


def critical_path_s(jobs: Sequence[ClusterJob], delays: Delays) -> float:
    """Return the seconds that no number of GPUs makes shorter: the longest chain of jobs, each with its delays."""
    each = delays.queue_s + delays.start_s + delays.notice_s
    by_name = {job.name: job for job in jobs}
    ends: dict[str, float] = {}

    def end_of(name: str) -> float:
        if name not in ends:
            job = by_name[name]
            ends[name] = max((end_of(other) for other in job.after), default=0.0) + each + job.work_s
        return ends[name]

    return max(map(end_of, by_name))
