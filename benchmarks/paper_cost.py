"""What the paper experiment would cost: a model, from rates of networks and measured overheads of methods.

N images and E epochs of a dataset; rates in images/s of one device. Seconds:

    step of a student = 1 / train(student) + overhead of its method
    overhead = (r - 1) (1 / train(student) + 1 / forward(teacher))
        r: step with the method over the baseline's, the teacher's pass in both
    pack = N E (1 / forward(teacher) + sum of steps) + students x tests x N_test / forward(student)
    teacher = N E / train(teacher) + tests x N_test / forward(teacher)

A row `<method>+kd` has the overheads of both. Without sharing every student is a pack of its own. Reading images,
starting jobs, overlap and report are left out: the rates are those of a device that never waits. With several devices,
jobs are dealt out greedily, longest first, each as soon as its teacher is there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dctkd.data.check.official_counts import official_counts
from dctkd.packs import cut_packs
from dctkd.plan import Plan, Run


@dataclass(frozen=True)
class Rates:
    """Images per second of one device, by architecture without its tag.

    Attributes:
        train: Forward, backward and optimiser step.
        forward: Forward alone.
    """

    train: Mapping[str, float]
    forward: Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """The students of one dataset, pair and seed, which share a teacher.

    Attributes:
        teacher: Name of the teacher's run, as in its edge.
        networks: Architectures of teacher and student.
        num_train: Training images times epochs.
        num_tested: Test images times the tests during training and at its end.
        rows: Methods.
    """

    teacher: str
    networks: tuple[str, str]
    num_train: int
    num_tested: int
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Seconds of a device; `after` names the job that must be done before, `name` this one."""

    name: str
    seconds: float
    after: str | None = None


def groups_of(plan: Plan) -> list[Group]:
    """Return the groups of an experiment on datasets with published sizes."""
    groups: dict[tuple[str, str | None, int], Group] = {}
    for run in plan.runs:
        architectures = (_architecture(run, "teacher_model"), _architecture(run, "model"))
        sizes = _sizes(run)
        teacher = plan.teacher_of(run).path
        group = Group(teacher, architectures, *sizes, rows=tuple(plan.config.methods))
        groups.setdefault((run.dataset, run.pair, run.seed), group)
    return list(groups.values())


def teacher_jobs(plan: Plan, rates: Rates) -> list[Job]:
    """Return the jobs that train the teachers."""
    jobs = []
    for run in plan.teachers:
        network = _architecture(run, "model")
        num_train, num_tested = _sizes(run)
        jobs.append(Job(run.path, num_train / rates.train[network] + num_tested / rates.forward[network]))
    return jobs


def student_jobs(
    groups: Iterable[Group], rates: Rates, overheads: Mapping[str, float], packs: Sequence[Sequence[str]]
) -> list[Job]:
    """Return the jobs that train the students, one for each pack of each group."""
    return [
        Job(f"{group.teacher} {number}", pack_seconds(group, rates, overheads, rows), after=group.teacher)
        for group in groups
        for number, rows in enumerate(packs)
    ]


def pack_seconds(group: Group, rates: Rates, overheads: Mapping[str, float], rows: Sequence[str]) -> float:
    """Return the seconds of a pack, by the formulas at the top of this file.

    Args:
        group: Its networks and images.
        rates: Of the device.
        overheads: Of each method: step with it over the baseline's, teacher's pass in both.
        rows: The pack's rows.
    """
    teacher, student = group.networks
    teacher_s, student_s = 1 / rates.forward[teacher], 1 / rates.train[student]
    steps_s = sum(student_s + overhead_of(row, overheads) * (student_s + teacher_s) for row in rows)
    tests_s = len(rows) * group.num_tested / rates.forward[student]
    return group.num_train * (teacher_s + steps_s) + tests_s


def overhead_of(row: str, overheads: Mapping[str, float]) -> float:
    """Return the share of a baseline's step that a row adds; 0 where the measurement says less than nothing.

    Example:
        >>> overhead_of("at+kd", {"at": 1.5, "kd": 1.25})
        0.75
    """
    methods = row.removesuffix("+kd"), *(("kd",) if row.endswith("+kd") else ())
    return sum(max(overheads[method] - 1, 0.0) for method in methods)


def makespan(jobs: Sequence[Job], num_devices: int) -> float:
    """Return the seconds until all jobs are done, dealt out greedily: of those that can start, the longest first.

    Example:
        >>> makespan([Job("a", 2), Job("b", 3, after="a"), Job("c", 1)], num_devices=2)
        5.0
    """
    waiting = sorted(jobs, key=lambda job: -job.seconds)
    running: list[tuple[float, str]] = []
    done: set[str] = set()
    now = 0.0
    while waiting or running:
        while len(running) < num_devices and (
            job := next((j for j in waiting if j.after in done or j.after is None), None)
        ):
            waiting.remove(job)
            heapq.heappush(running, (now + job.seconds, job.name))
        if not running:
            raise ValueError(f"no job can start: {waiting[0].name} waits for {waiting[0].after}, which is not there")
        now, name = heapq.heappop(running)
        done.add(name)
    return now


def packs_for(plan: Plan, groups: Sequence[Group], num_devices: int) -> tuple[tuple[str, ...], ...]:
    """Return the packs that `students_per_job: auto` cuts for so many devices."""
    packs = cut_packs(tuple(plan.config.methods), "auto", groups=len(groups), num_jobs=num_devices, are_alike=False)
    return tuple(pack.methods for pack in packs)


def _architecture(run: Run, key: str) -> str:
    return str(run.identity[key]["architecture"]).partition(".")[0]


def _sizes(run: Run) -> tuple[int, int]:
    """Return the training images times epochs, and the test images times tests."""
    data, recipe = run.identity["data"], run.identity["recipe"]
    counts = official_counts(data["format"], data["options"])
    if counts is None:
        raise ValueError(
            f"dataset {run.dataset}: format {data['format']} has no published size; model another experiment"
        )
    every = recipe["evaluate_every_epochs"]
    tests = 1 + (recipe["epochs"] // every if every else 0)
    return counts.num_train_images * recipe["epochs"], counts.num_test_images * tests
