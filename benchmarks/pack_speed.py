"""Students side by side on one teacher pass against each on its own, step by step in one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from benchmarks.results import Section, Table
from benchmarks.settings import Setting
from benchmarks.workbench import RESNETS, TINY, experiment_of, temporary_pack

METHODS = ("baseline", "kd", "at", "dct", "sp", "pkt", "dkd", "dist")
AT_LEAST = 1.35
REPEATS = 6


def measure_packs(setting: Setting) -> Section:
    """Compare a pack of eight with eight runs alone: of eight methods, and of one method eight times."""
    mixed: Mapping[str, Any] = dict.fromkeys(METHODS)
    same = {f"kd{number}": {"method": "kd"} for number in range(len(METHODS))}
    findings = [
        _measure(rows, what, threads, setting)
        for rows, what in ((mixed, "eight methods"), (same, "kd eight times"))
        for threads in (1, 2)
    ]
    about = (
        "One step of each of eight students alone, each with its own batch and teacher pass, over one step of the "
        f"pack, in turns in one process. Eight methods: {', '.join(METHODS)}. With a teacher's pass of share s of a "
        "solo step the ratio is at most 8 / (8 - 7 s)."
    )
    ratios = tuple(ratio for ratio, _ in findings)
    return Section("Eight students side by side against eight alone", about, ratios, _tables(findings))


def _measure(rows: Mapping[str, Any], what: str, threads: int, setting: Setting) -> tuple[Ratio, list[float]]:
    """Return the speed-up, and the median milliseconds of each solo step and of the packed one."""
    pair = TINY if setting.is_quick else RESNETS
    with temporary_pack(experiment_of(pair, rows, threads=threads)) as pack:
        actions = [*(pack.step_of(learner) for learner in pack.learners), pack.step_of(*pack.learners)]
        interleave(actions, 1)
        *solo, packed = interleave(actions, setting.repeats(REPEATS))
        pack.require_running()
    together = [sum(round_) for round_ in zip(*solo, strict=True)]
    value, low, high = ratio_of_medians(together, packed)
    detail = f"{pair.name}, {threads} thread{'s' if threads > 1 else ''}, {len(packed)} steps each"
    ratio = Ratio(f"eight alone / pack of eight, {what}", value, low, high, at_least=AT_LEAST, detail=detail)
    return ratio, [1000 * float(np.median(series)) for series in (*solo, packed)]


def _tables(findings: list[tuple[Ratio, list[float]]]) -> tuple[Table, ...]:
    one, two = (milliseconds for _, milliseconds in findings[:2])
    names = (*METHODS, "all eight in a pack, per student")
    per_student = [(*series[:-1], series[-1] / len(METHODS)) for series in (one, two)]
    rows = tuple((name, f"{a:.1f}", f"{b:.1f}") for name, a, b in zip(names, *per_student, strict=True))
    return (Table(("step", "one thread (ms)", "two threads (ms)"), rows),)
