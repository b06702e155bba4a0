"""What every table says about itself: experiment, n, epoch, teacher, number of runs, code, hardware."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from dctkd.report.collect import Collected
from dctkd.report.edges import FoundRun, list_runs
from dctkd.report.layout import Layout

NOT_RECORDED = "not recorded"
NUM_LISTED = 6
"""How many failed runs a footnote lists before it counts the rest."""


def seeds_text(layout: Layout) -> str:
    """Return the number of seeds, as titles say it.

    Example:
        >>> seeds_text(Layout((), (), (), (0, 1, 2)))
        'n = 3 seeds'
    """
    n = len(layout.seeds)
    return f"n = {n} seed{'s' if n != 1 else ''}"


def commits_text(collected: Collected) -> str:
    """Return the code versions the runs were made with, most frequent first."""
    counts = Counter(_commit(collected.environments.get(one.metrics.digest, {})) for one in collected.found)
    return "; ".join(_with_counts(counts))


def coverage_text(collected: Collected) -> str:
    """Return the file of the experiment and how many of its runs are in the tables."""
    plan = collected.plan
    num_found = sum(one.planned.student is not None for one in collected.found)
    num_teachers = len(collected.found) - num_found
    runs = f"{num_found} of {len(plan.runs)} student runs, {num_teachers} of {len(plan.teachers)} teachers"
    return f"{plan.config_file}: {runs}; {seeds_text(Layout.of(plan))} per cell unless marked."


def common_notes(collected: Collected) -> tuple[str, ...]:
    """Return the notes that stand under every table."""
    plan = collected.plan
    title = f" ({plan.config.title})" if plan.config.title else ""
    notes = [f"Experiment {plan.name}{title}, {coverage_text(collected)}"]
    if collected.missing:
        notes.append(f"Partial: {len(collected.missing)} runs are missing ({list_runs(list(collected.missing))}).")
    notes += _failed_notes(collected.found)
    notes.append("Reported: the last epoch of training; nothing is selected on the test set.")
    if (fraction := plan.config.recipes[plan.config.student_recipe].held_out_fraction) is not None:
        notes.append(f"Held out: {fraction:.3g} of each class's training images, which no network is trained on.")
    notes.append(_teacher_note(collected))
    notes.append(f"Code: commit {commits_text(collected)}. Hardware: {_hardware_text(collected)}.")
    mixed = sum(
        bool(collected.environments.get(one.metrics.digest, {}).get("mixed_platform")) for one in collected.found
    )
    if mixed:
        notes.append(f"{mixed} runs were resumed on another platform than they were started on.")
    return (*notes, *collected.notes)


def cost_notes(collected: Collected) -> tuple[str, ...]:
    """Return what the counts of GMACs leave out, and for which batch size methods are counted."""
    networks = _by_last_part(collected.cost.get("models", {}), "ignored_ops")
    methods = _by_last_part(collected.cost.get("methods", {}), "extra_ignored_ops")
    records = collected.cost.get("methods", {}).items()
    notes = [f"GMACs of {names} leave out: {ops}." for ops, names in _grouped(networks)]
    notes += [f"Extra GMACs of {names} leave out: {ops}." for ops, names in _grouped(methods)]
    reasons = dict.fromkeys(
        f"Extra GMACs of {key.rsplit('/', 1)[-1]} are not counted: {record['extra_macs_reason']}."
        for key, record in records
        if record.get("extra_macs_reason")
    )
    sizes = sorted({record["extra_macs_batch_size"] for _, record in records if record.get("extra_macs_batch_size")})
    if sizes:
        notes.append(f"Extra GMACs are per image, in batches of {', '.join(map(str, sizes))} images.")
    return (*notes, *reasons)


def _by_last_part(entries: Mapping[str, Mapping[str, Any]], field: str) -> dict[str, set[str]]:
    """Return the operations of each network or method, over all datasets and pairs; keys end in its name."""
    found: dict[str, set[str]] = {}
    for key, record in sorted(entries.items()):
        found.setdefault(key.rsplit("/", 1)[-1], set()).update(record.get(field) or {})
    return found


def _grouped(operations: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return (operations, names that leave out just these), without names that leave out nothing."""
    groups: dict[str, list[str]] = {}
    for name, found in operations.items():
        if found:
            groups.setdefault(", ".join(sorted(found)), []).append(name)
    return [(ops, ", ".join(names)) for ops, names in sorted(groups.items())]


def _teacher_note(collected: Collected) -> str:
    if collected.plan.config.teacher_seed == "matched":
        return "Teacher: one per seed; a student learns from the teacher of its own seed."
    seed = collected.plan.config.teacher_seed
    return f"Teacher: one, of seed {seed}, for all students; intervals and differences are given this teacher."


def _failed_notes(found: tuple[FoundRun, ...]) -> list[str]:
    failed = [one for one in found if one.metrics.status != "ok"]
    if not failed:
        return []
    listed = [f"{PurePosixPath(one.planned.path).parent} ({_reason(one)})" for one in failed[:NUM_LISTED]]
    more = f" and {len(failed) - NUM_LISTED} more" if len(failed) > NUM_LISTED else ""
    words = "div.: loss or gradient not finite; oom: out of memory. Such runs are counted, and left out of the means"
    return [f"{words}: {', '.join(listed)}{more}."]


def _reason(one: FoundRun) -> str:
    detail = one.metrics.detail
    last = detail.get("last_finite") or {}
    when = "" if detail.get("epoch") is None else f" in epoch {detail['epoch']}"
    if one.metrics.status == "diverged" and {"loss", "gradient_norm", "step"} <= last.keys():
        values = f"loss {last['loss']:.4g}, gradient norm {last['gradient_norm']:.4g}"
        when += f"; last finite, in step {last['step']}: {values}"
    return f"{one.metrics.status}{when}"


def _hardware_text(collected: Collected) -> str:
    counts = Counter(hardware_text(collected.environments.get(one.metrics.digest, {})) for one in collected.found)
    return "; ".join(_with_counts(counts))


def hardware_text(environment: Mapping[str, Any]) -> str:
    """Return the processor, device and precision that a record with the key `platform` names."""
    platform: Mapping[str, Any] = environment.get("platform") or {}
    if not platform:
        return NOT_RECORDED
    cores = platform.get("num_cores", "an unknown number of")
    gpu = f", {platform['gpu']}" if platform.get("gpu") else ""
    precision = f"precision {platform.get('precision', NOT_RECORDED)}"
    return (
        f"{platform.get('cpu_model', 'unknown CPU')}, {cores} cores{gpu}, device {platform.get('device')}, {precision}"
    )


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment.get("git_commit")
    if not commit:
        return NOT_RECORDED
    return f"{str(commit)[:12]}{' (changed)' if environment.get('git_dirty') else ''}"


def _with_counts(counts: Counter[str]) -> list[str]:
    """Return the texts, most frequent first; with counts only where there is more than one."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        return [NOT_RECORDED]
    return [ordered[0][0]] if len(ordered) == 1 else [f"{text} ({count} runs)" for text, count in ordered]
