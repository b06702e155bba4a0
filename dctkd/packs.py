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
    methods: Sequence[str], students_per_job: Literal["auto", "all"] | int, *, groups: int, num_jobs: int | None
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
    """
    if isinstance(students_per_job, int):
        size = students_per_job
    elif students_per_job == "all" or num_jobs is None:
        size = len(methods)
    else:
        sizes = range(1, len(methods) + 1)
        size = min(sizes, key=lambda s: (_estimated_rounds(len(methods), s, groups, num_jobs), -s))
    num_packs = math.ceil(len(methods) / size)
    return tuple(Pack(number, tuple(methods[number::num_packs])) for number in range(num_packs))


def _estimated_rounds(num_methods: int, size: int, groups: int, num_jobs: int) -> float:
    """Wall time in solo student steps: whole rounds of jobs, each one teacher pass and `size` students."""
    share = TEACHER_SHARE_OF_STEP
    rounds = math.ceil(groups * math.ceil(num_methods / size) / num_jobs)
    return rounds * (share + size * (1 - share))
