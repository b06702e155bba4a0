"""Training on photographs, process against process: one student, two jobs of eight, torchdistill, a plain loop."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workbench
from benchmarks.peers.networks import NUM_CLASSES, write_weights
from benchmarks.peers.torchdistill_loop import SITE
from benchmarks.photographs import write_folder
from benchmarks.processes import REPOSITORY, Rate, run_at_once
from benchmarks.ratios import Ratio, ratio_of_medians
from benchmarks.results import Section, Table
from benchmarks.settings import Setting

METHODS = ("kd", "at")
STUDENTS_PER_JOB = 8
SOLO_AT_LEAST, JOBS_AT_LEAST = 1.7, 2.8
TORCHDISTILL = "torchdistill 1.1.5"
PEERS = {TORCHDISTILL: "torchdistill_loop", "plain loop": "plain_loop"}
SOLO, JOBS = "ours, one student", "ours, two jobs of eight students"
Rates = dict[tuple[str, str], list[Rate]]
"""Of each repeat, by kind of job and method."""
INSTALL_LOG = SITE.with_name("peers.log")


@dataclass(frozen=True)
class Work:
    """What every job does.

    Attributes:
        per_class: Training images of each of the classes.
        epochs: Epochs that each student is trained for.
        repeats: How often each job is run, in turns with the others.
    """

    per_class: int = 20
    epochs: int = 2
    repeats: int = 3


def measure_end_to_end(setting: Setting) -> Section:
    """Train on photographs by four kinds of process, in turns."""
    work = Work(per_class=1, epochs=1, repeats=1) if setting.is_quick else Work()
    missing = why_missing()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kind = write_folder(folder, setting.photographs, classes=NUM_CLASSES, per_class=work.per_class, size=(128, 128))
        write_weights(folder)
        packing_s = _prepare(folder, work)
        rates = _run_all(folder, work, [peer for peer in PEERS if not (missing and peer == TORCHDISTILL)])
    about, lines = _about(kind, work, packing_s), (missing,) if missing else ()
    return Section("End to end on photographs", about, ratios_of(rates), (table_of(rates),), lines)


def why_missing() -> str:
    """Return why there is no torchdistill to compare with; empty if there is."""
    if (SITE / "torchdistill").is_dir():
        return ""
    reason = " ".join(INSTALL_LOG.read_text().split()) if INSTALL_LOG.is_file() else ""
    return f"torchdistill is not in {SITE.relative_to(REPOSITORY)}: {reason or 'make bench installs it'}"


def _about(kind: str, work: Work, packing_s: float) -> str:
    images = work.per_class * NUM_CLASSES
    return (
        f"ResNet-50 to ResNet-18, {NUM_CLASSES} classes, {images:,} {kind}, short side 72, random crop 64, mirroring, "
        f"batch 64, {work.epochs} epochs, two cores; each job is a process, the kinds run in turns, {work.repeats} "
        "times. Networks have one architecture (timm's in ours, torchvision's with timm's weights in the peers) and "
        "random weights, on which speed does not depend. The peers decode with PIL in every epoch and compute in "
        "float32, as their users run them, on two threads; a peer runs with 0 and with 2 workers once, then with the "
        "faster. torchdistill's teacher is put in evaluation mode, which its caller must do. Ours reads the pixel "
        f"cache, which took {packing_s:.1f} s to make, once for all runs. Ratios compare the time of an image, "
        "averaged over kd and at."
    )


def _experiments(folder: Path, work: Work) -> dict[str, dict[str, Any]]:
    """Return our two experiments: each method alone on two threads, and sixteen rows for two jobs of one thread."""
    solo: Mapping[str, Any] = dict.fromkeys(METHODS)
    default = {"kd": 0.8, "at": 1000.0}
    # Each row has a weight of its own, as the store would train equal rows once.
    packed = {
        f"{method}{number}": {"method": method, "weight": default[method] * (1 + number / 1000)}
        for number in range(STUDENTS_PER_JOB)
        for method in METHODS
    }
    experiments = {}
    for name, rows, threads in (("solo", solo, 2), ("packed", packed, 1)):
        raw = workbench.experiment_of(workbench.RESNETS, rows, threads=threads, epochs=work.epochs)
        dataset = {"format": "imagefolder", "root": str(folder), "input": {"short_side": 72, "crop": 64}}
        seeds = list(range(work.repeats))
        experiments[name] = {**raw, "experiment": name, "datasets": {"photographs": dataset}, "seeds": seeds}
        experiments[name]["teacher_seed"] = 0
    return experiments


def _prepare(folder: Path, work: Work) -> float:
    """Pack the images, once for all runs, and store the teacher; return the seconds of packing."""
    experiments = list(_experiments(folder, work).values())
    plan = workbench.write_experiment(experiments[0], folder)
    started = time.perf_counter()
    workbench.pack_images(plan, folder / "results")
    packing_s = time.perf_counter() - started
    for raw in experiments:
        workbench.prepare(raw, folder)
    return packing_s


def _run_all(folder: Path, work: Work, peers: Sequence[str]) -> Rates:
    """Run every kind of job in turns; return the rates by kind and method."""
    rates: Rates = {}
    workers: dict[str, int] = {}
    for repeat in range(work.repeats):
        for method in METHODS:
            ours = ["ours", str(folder / "solo.yaml"), str(repeat), method]
            rates.setdefault((SOLO, method), []).append(run_at_once([ours], threads=2))
            for peer in peers:
                wanted = (workers[peer],) if peer in workers else (0, 2)
                tried = {number: _run_peer(folder, peer, method, number, work) for number in wanted}
                workers[peer] = max(tried, key=lambda number: tried[number].training)
                rates.setdefault((peer, method), []).append(tried[workers[peer]])
        rates.setdefault((JOBS, "kd and at"), []).append(_run_two_jobs(folder, repeat))
    return rates


def _run_peer(folder: Path, peer: str, method: str, workers: int, work: Work) -> Rate:
    return run_at_once([[PEERS[peer], str(folder), method, str(workers), str(work.epochs), "2"]], threads=2)


def _run_two_jobs(folder: Path, seed: int) -> Rate:
    """Train sixteen students, half of them with each method, in two processes of one thread."""
    rows = [f"{method}{number}" for number in range(STUDENTS_PER_JOB) for method in METHODS]
    jobs = [
        ["ours", str(folder / "packed.yaml"), str(seed), *part]
        for part in (rows[:STUDENTS_PER_JOB], rows[STUDENTS_PER_JOB:])
    ]
    return run_at_once(jobs, threads=1)


def seconds_per_image(rates: Rates, kind: str) -> list[float]:
    """Return the seconds of a student's image in training in each repeat, averaged over the methods of a kind."""
    series = [[1 / rate.training for rate in found] for (name, _), found in rates.items() if name == kind]
    return [sum(repeat) / len(repeat) for repeat in zip(*series, strict=True)]


def ratios_of(rates: Rates) -> tuple[Ratio, ...]:
    """Compare both ways of ours with every peer that was run; the bounds are those against torchdistill."""
    bounds = {SOLO: SOLO_AT_LEAST, JOBS: JOBS_AT_LEAST}
    ratios = []
    for peer in (peer for peer in PEERS if (peer, METHODS[0]) in rates):
        for kind, bound in bounds.items():
            value, low, high = ratio_of_medians(seconds_per_image(rates, peer), seconds_per_image(rates, kind))
            at_least = bound if peer == TORCHDISTILL else None
            ratios.append(Ratio(f"{kind} / {peer}", value, low, high, at_least=at_least, detail="images/s in training"))
    return tuple(ratios)


def table_of(rates: Rates) -> Table:
    """Return medians over repeats."""
    rows = []
    for (kind, method), series in rates.items():
        training, whole, start_s = (
            np.median([getattr(r, n) for r in series]) for n in ("training", "whole", "start_s")
        )
        spread = f"{min(r.training for r in series):.0f} to {max(r.training for r in series):.0f}"
        rows.append((kind, method, f"{training:.0f}", spread, f"{whole:.0f}", f"{start_s:.1f}"))
    header = (
        "job",
        "method",
        "images/s in training",
        "of repeats",
        "images/s of the whole process",
        "start and end (s)",
    )
    return Table(header, tuple(rows), "Images/s are summed over students and jobs.")
