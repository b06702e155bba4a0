"""Cutting the rows of an experiment into packs. Imports neither torch nor timm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TEACHER_SHARE_OF_STEP = 0.35
"""Teacher's share of a solo step (ResNet-50 to ResNet-18 at 64 px on 2 CPU cores), for cutting packs only."""


@dataclass(frozen=True)
class Pack:
    """Methods whose students one job trains side by side."""

    index: int
    methods: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the rule."""
        return f"students_pack{self.index}"


def cut_packs(
    methods: Sequence[str],
    students_per_job: Literal["auto", "all"] | int,
    *,
    groups: int,
    num_jobs: int | None,
    are_alike: bool = True,
    at_most: int | None = None,
) -> tuple[Pack, ...]:
    """Cut the method list into packs, whose students one job trains on one teacher pass.

    `auto` takes the number of packs with the shortest estimated wall time: more packs fill the cores, fewer share the
    teacher more. Rows are dealt out in turn: neighbours in a table are often of one kind and cost, and a pack that held
    all the dear ones would keep the others waiting.

    Args:
        methods: Rows, in table order.
        students_per_job: From the config.
        groups: Number of dataset, pair and seed combinations; each needs every pack once.
        num_jobs: Jobs at a time; None: unknown, one pack holds all.
        are_alike: Whether the groups take equally long: those of one dataset and pair do.
        at_most: For `auto`, students that a job can train before its time is over; None: any number.
    """
    fewest = 1 if at_most is None else math.ceil(len(methods) / at_most)
    if isinstance(students_per_job, int):
        num_packs = math.ceil(len(methods) / students_per_job)
    elif students_per_job == "all" or num_jobs is None:
        num_packs = fewest if students_per_job == "auto" else 1
    else:
        estimate = _wall_time_of_equal_groups if are_alike else _longest_wall_time
        num_packs = min(range(fewest, len(methods) + 1), key=lambda n: (estimate(len(methods), n, groups, num_jobs), n))
    return tuple(Pack(number, tuple(methods[number::num_packs])) for number in range(num_packs))


def _longest_job(num_methods: int, num_packs: int) -> float:
    """Time of the largest pack, in solo student steps: one teacher pass and its students."""
    return TEACHER_SHARE_OF_STEP + math.ceil(num_methods / num_packs) * (1 - TEACHER_SHARE_OF_STEP)


def _wall_time_of_equal_groups(num_methods: int, num_packs: int, groups: int, num_jobs: int) -> float:
    """Whole rounds of jobs."""
    return math.ceil(groups * num_packs / num_jobs) * _longest_job(num_methods, num_packs)


def _longest_wall_time(num_methods: int, num_packs: int, groups: int, num_jobs: int) -> float:
    """What no order of jobs exceeds, however unequal they are (Graham 1969, doi:10.1137/0117039)."""
    work = groups * (num_packs * TEACHER_SHARE_OF_STEP + num_methods * (1 - TEACHER_SHARE_OF_STEP))
    return work / num_jobs + (1 - 1 / num_jobs) * _longest_job(num_methods, num_packs)
