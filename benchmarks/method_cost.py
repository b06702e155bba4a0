"""What each method adds to a training step: time, parameters and memory, on one batch of random images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.memory import peak_bytes
from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from dctkd.config import Sgd
from dctkd.engine.device import Precision
from dctkd.engine.objective import Objective, make_optimiser
from dctkd.engine.train import teacher_pass
from dctkd.identity import MethodIdentity
from dctkd.methods import METHODS, catalogue, create
from dctkd.methods.base import Batch, DataSpec
from dctkd.models import StageModel, build_model, spec

BATCH_SIZE, CROP, NUM_CLASSES, NUM_TRAIN_IMAGES = 64, 64, 100, 20_000
STUDENT, TEACHER = "resnet18", "resnet50"
LIMITS = {"at": 1.04, "dct": 1.05}
"""Largest allowed step with the method, over the step without it."""
STEPS_OF_ALL, STEPS_OF_LIMITED = 6, 30


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

    def __str__(self) -> str:
        interval = f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.method:18}{self.step_ms:9.1f}   {interval:24}{self.parameters:14,}{self.memory_mib:10.1f}"


def measure_methods(*, precision: Precision) -> tuple[list[Cost], list[Ratio]]:
    """Time every method in turns with the baseline; those with a limit again, more often.

    Returns:
        A row per method, and a ratio with its bound for each method that has one.
    """
    torch.set_num_threads(1)
    bench = _Bench(precision)
    names = list(METHODS)
    steps = [bench.step_of(name) for name in names]
    interleave(steps, 1)
    memory = [peak_bytes(step) for step in steps]
    seconds = interleave(steps, STEPS_OF_ALL)
    costs = []
    for name, series, peak in zip(names, seconds, memory, strict=True):
        value, low, high = ratio_of_medians(series, seconds[0])
        step_ms = 1000 * sorted(series)[len(series) // 2]
        extra = bench.kept_bytes(name) + peak - memory[0]
        costs.append(Cost(name, step_ms, value, low, high, bench.num_parameters(name), extra / 2**20))
    return costs, _limited(bench)


def _limited(bench: _Bench) -> list[Ratio]:
    baseline, *seconds = interleave([bench.step_of(name) for name in ("baseline", *LIMITS)], STEPS_OF_LIMITED)
    detail = f"{TEACHER} to {STUDENT}, {CROP} px, batch {BATCH_SIZE}, {STEPS_OF_LIMITED} steps each, one thread"
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


def print_costs(costs: Sequence[Cost]) -> None:
    """Print the table."""
    print(f"\n{TEACHER} to {STUDENT}, {CROP} px, batch {BATCH_SIZE}, one thread; a step holds the teacher's pass")
    print(f"{'method':18}{'ms/step':>9}   {'over baseline [95 % CI]':24}{'parameters':>14}{'MiB':>10}")
    for cost in costs:
        print(cost)
