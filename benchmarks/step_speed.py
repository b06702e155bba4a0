"""The engine's training step against a bare torch loop on tensors in memory, with all else equal."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from benchmarks.results import Section
from benchmarks.settings import Setting
from benchmarks.workbench import LR, RESNETS, TINY, Pair, experiment_of, temporary_pack
from dctkd.engine.device import Precision
from dctkd.methods import catalogue

WARMUP_STEPS = 5
STEPS = 30
NUM_CLASSES = 12
AT_MOST, GOAL = 1.05, "<= 1.03"


def measure_steps(setting: Setting) -> Section:
    """Compare our step with a bare one: without a teacher on one thread, with it (KD) on one and on two threads."""
    pair = TINY if setting.is_quick else RESNETS
    ratios = [_without_teacher(pair, setting), _with_teacher(pair, setting, 1), _with_teacher(pair, setting, 2)]
    about = (
        "Ours reads the batch from the pixel cache, checks loss and gradient norm, meters, and schedules; the bare "
        "loop has its batches in memory and does none of that. Both: the same networks, losses, autocast, "
        "channels_last, SGD; steps in turns in one process."
    )
    return Section("Our training step against a bare torch loop", about, tuple(ratios))


def _without_teacher(pair: Pair, setting: Setting) -> Ratio:
    """Train the student's network as a teacher is trained: on labels alone."""
    raw = experiment_of(pair, {"baseline": None}, threads=1)
    with temporary_pack(raw) as pack:
        ours = pack.step_of(*pack.learners, without_teacher=True)
        bare = bare_step(pair, setting.precision, with_teacher=False)
        return _compare("our step / bare step", ours, bare, f"{pair.name}: the student alone, one thread", setting)


def _with_teacher(pair: Pair, setting: Setting, threads: int) -> Ratio:
    with temporary_pack(experiment_of(pair, {"kd": None}, threads=threads)) as pack:
        ours = pack.step_of(*pack.learners)
        bare = bare_step(pair, setting.precision, with_teacher=True)
        detail = f"{pair.name}, kd, {threads} thread{'s' if threads > 1 else ''}"
        ratio = _compare("our step with kd / bare step with kd", ours, bare, detail, setting)
        pack.require_running()
        return ratio


def _compare(name: str, ours: Callable[[], float], bare: Callable[[], float], detail: str, setting: Setting) -> Ratio:
    interleave([ours, bare], setting.repeats(WARMUP_STEPS))
    seconds = interleave([ours, bare], setting.repeats(STEPS))
    value, low, high = ratio_of_medians(*seconds)
    return Ratio(name, value, low, high, at_most=AT_MOST, goal=GOAL, detail=f"{detail}, {len(seconds[0])} steps each")


def bare_step(pair: Pair, precision: Precision, *, with_teacher: bool) -> Callable[[], float]:
    """Return a step as one would write it without this package; it returns its seconds."""
    student = _network(pair.student).train()
    teacher = _network(pair.teacher).eval().requires_grad_(False) if with_teacher else None
    optimiser = torch.optim.SGD(student.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4, foreach=True)
    shape = (pair.batch_size, 3, pair.crop, pair.crop)
    images = [torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(4)]
    batches = itertools.cycle((x, torch.arange(pair.batch_size) % NUM_CLASSES) for x in images)
    enabled = precision == "bfloat16"

    def step() -> float:
        started = time.perf_counter()
        images_BCHW, target_B = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            with torch.no_grad():
                teacher_BK = None if teacher is None else teacher(images_BCHW)
            logits_BK = student(images_BCHW)
        _loss(logits_BK.float(), target_B, teacher_BK).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    return step


def _network(model: Mapping[str, Any]) -> nn.Module:
    options = {key: tuple(value) for key, value in model.get("options", {}).items()}
    net: nn.Module = timm.create_model(model["architecture"], num_classes=NUM_CLASSES, **options)
    return net.to(memory_format=torch.channels_last)


def _loss(logits_BK: Tensor, target_B: Tensor, teacher_BK: Tensor | None, temperature: float = 4.0) -> Tensor:
    """Return the cross-entropy, and KD with the weights of the row `kd` if there is a teacher."""
    ce = F.cross_entropy(logits_BK, target_B)
    if teacher_BK is None:
        return ce
    kd = catalogue.entry("kd")
    student_BK, target_BK = (F.log_softmax(x / temperature, dim=1) for x in (logits_BK, teacher_BK.float()))
    kl = F.kl_div(student_BK, target_BK, log_target=True, reduction="batchmean") * temperature**2
    return kd["default_ce"] * ce + kd["default_weight"] * kl
