"""What each method adds to a training step: time, parameters and memory, on one batch of random images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from benchmarks.memory import peak_bytes
from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from benchmarks.results import Section, Table
from benchmarks.settings import Setting
from dctkd.engine.device import Precision
from dctkd.engine.objective import Objective, make_optimiser
from dctkd.engine.train import teacher_pass
from dctkd.identity import MethodIdentity
from dctkd.methods import METHODS, catalogue, create
from dctkd.methods.base import Batch, DataSpec
from dctkd.models import StageModel, build_model, spec
from dctkd.recipe import Sgd

BATCH_SIZE, CROP, NUM_CLASSES, NUM_TRAIN_IMAGES = 64, 64, 100, 20_000
STUDENT, TEACHER = "resnet18", "resnet50"
LIMITS = {"at": 1.04, "dct": 1.05}
"""Largest allowed step with the method, over the step without it."""
STEPS_OF_ALL, STEPS_OF_LIMITED = 6, 30
QUICK_METHODS = ["baseline", "kd", "at"]


@dataclass(frozen=True)
class Cost:
    """One row of the table; a step includes the teacher's pass, in training as in the baseline."""

    method: str
    step_ms: float
    ratio: float
    low: float
    high: float
    parameters: int
    memory_mib: float


def measure_methods(setting: Setting) -> Section:
    """Time every method in turns with the baseline; those with a limit again, more often."""
    costs = cost_of_methods(setting)
    header = ("method", "ms/step", "over baseline [95 % interval]", "parameters", "MiB")
    rows = tuple(
        (
            c.method,
            f"{c.step_ms:.1f}",
            f"{c.ratio:.3f} [{c.low:.3f}, {c.high:.3f}]",
            f"{c.parameters:,}",
            f"{c.memory_mib:.1f}",
        )
        for c in costs
    )
    about = (
        f"{TEACHER} to {STUDENT}, {CROP} px, batch {BATCH_SIZE}, one thread, on random images; a step holds the "
        "teacher's pass, the baseline's too. Parameters and memory are what the method adds: parameters with their "
        "momentum, buffers, and the peak of a step."
    )
    return Section("What each method adds", about, tuple(_limited(_bench(setting), setting)), (Table(header, rows),))


@cache
def cost_of_methods(setting: Setting) -> tuple[Cost, ...]:
    """Return a row per method; measured once per process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bench = _bench(setting)
    names = QUICK_METHODS if setting.is_quick else list(METHODS)
    steps = [bench.step_of(name) for name in names]
    interleave(steps, 1)
    memory = [peak_bytes(step) for step in steps]
    seconds = interleave(steps, setting.repeats(STEPS_OF_ALL))
    torch.set_num_threads(threads)
    costs = []
    for name, series, peak in zip(names, seconds, memory, strict=True):
        value, low, high = ratio_of_medians(series, seconds[0])
        step_ms = 1000 * sorted(series)[len(series) // 2]
        extra = bench.kept_bytes(name) + peak - memory[0]
        costs.append(Cost(name, step_ms, value, low, high, bench.num_parameters(name), extra / 2**20))
    return tuple(costs)


@cache
def _bench(setting: Setting) -> _Bench:
    return _Bench(setting.precision)


def _limited(bench: _Bench, setting: Setting) -> list[Ratio]:
    torch.set_num_threads(1)
    repeats = setting.repeats(STEPS_OF_LIMITED)
    baseline, *seconds = interleave([bench.step_of(name) for name in ("baseline", *LIMITS)], repeats)
    detail = f"{TEACHER} to {STUDENT}, {CROP} px, batch {BATCH_SIZE}, {repeats} steps each, one thread"
    ratios = []
    for series, (name, at_most) in zip(seconds, LIMITS.items(), strict=True):
        value, low, high = ratio_of_medians(series, baseline)
        ratios.append(Ratio(f"step with {name} / baseline", value, low, high, at_most=at_most, detail=detail))
    return ratios


class _Bench:
    """One student and one teacher that all methods share; each method has its own objective and optimiser."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        torch.manual_seed(0)
        self.student, self.teacher = (_network(name) for name in (STUDENT, TEACHER))
        self.teach = teacher_pass(self.teacher, self._autocast)
        index_B = torch.arange(BATCH_SIZE)
        images_BCHW = torch.randn(BATCH_SIZE, 3, CROP, CROP).contiguous(memory_format=torch.channels_last)
        self.batch = Batch(images_BCHW, index_B % NUM_CLASSES, index_B, epoch=0, progress=0.0)
        self.objectives: dict[str, Objective] = {}

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def objective_of(self, name: str) -> Objective:
        if name not in self.objectives:
            labels = tuple(index % NUM_CLASSES for index in range(NUM_TRAIN_IMAGES))
            data = DataSpec(NUM_CLASSES, NUM_TRAIN_IMAGES, labels)
            method = create(name, spec(self.student, CROP), spec(self.teacher, CROP), data)
            self.objectives[name] = Objective(_weights(name), method, label_smoothing=0.0)
        return self.objectives[name]

    def step_of(self, name: str) -> Callable[[], float]:
        """Return a training step that the engine would take, and its seconds."""
        objective = self.objective_of(name)
        parameters = [*self.student.parameters(), *objective.parameters()]
        optimiser = make_optimiser(parameters, Sgd(lr=1e-6), torch.device("cpu"))  # Small: the steps share a student.

        def step() -> float:
            started = time.perf_counter()
            teacher = self.teach(self.batch)
            with self._autocast():
                terms = objective(self.student(self.batch.images_BCHW), teacher, self.batch, ramp=1.0)
            terms.total.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            return time.perf_counter() - started

        return step

    def num_parameters(self, name: str) -> int:
        return sum(parameter.numel() for parameter in self.objective_of(name).parameters())

    def kept_bytes(self, name: str) -> int:
        """Parameters and their momentum, and buffers: what stays between two steps."""
        objective = self.objective_of(name)
        parameters = sum(parameter.nbytes for parameter in objective.parameters())
        return 2 * parameters + sum(buffer.nbytes for buffer in objective.buffers())


def _network(architecture: str) -> StageModel:
    model = build_model(architecture, num_classes=NUM_CLASSES, stage_indices=[0, 1, 2, 3], input_size=CROP)
    return model.to(memory_format=torch.channels_last).train()


def _weights(name: str) -> MethodIdentity:
    entry = catalogue.entry(name)
    return MethodIdentity(
        method=name,
        options={},
        weight=entry["default_weight"],
        warmup_epochs=0.0,
        ce=entry["default_ce"],
        teacher_correct_only=False,
        kd_weight=0.0,
        kd_temperature=None,
        kd_teacher_correct_only=False,
        results_version=1,
        source_sha256=None,
    )
