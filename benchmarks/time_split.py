"""Where the time of a training step goes, by timers around the engine's own functions in its own loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.results import Section, Table
from benchmarks.settings import Setting
from benchmarks.workbench import DEMO, RESNETS, TINY, Pack, Pair, experiment_of, temporary_pack
from dctkd.engine.interrupt import Interrupt
from dctkd.engine.learner import Learner
from dctkd.engine.stream import Stream
from dctkd.engine.train import train
from dctkd.methods.base import Batch

METHODS = ("kd", "dct")
PARTS = ("loader", "teacher", "student forward", "method and loss", "backward", "optimiser")
WARMUP_STEPS = 5


@dataclass
class Stopwatch:
    """Seconds by part; `steps` counts those since the last restart."""

    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    started_s: float = field(default_factory=time.perf_counter)

    def restart(self) -> None:
        """Forget what was measured."""
        self.seconds, self.steps, self.started_s = {}, 0, time.perf_counter()

    def add(self, part: str, started_s: float) -> None:
        """Add the time since `started_s` to a part."""
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started_s

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time measured."""

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.add(part, started)

        return timed

    def milliseconds(self, total_s: float) -> dict[str, float]:
        """Return milliseconds per step by part, what is left over under `other`, and the whole under `step`."""
        parts = {part: self.seconds.get(part, 0.0) for part in PARTS}
        whole = {**parts, "other": total_s - sum(parts.values()), "step": total_s}
        return {part: 1000 * value / self.steps for part, value in whole.items()}


@dataclass(frozen=True)
class _TimedStream(Stream):
    watch: Stopwatch = field(default_factory=Stopwatch)

    def train(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield what the stream does, with the time until each batch is there measured."""
        batches = super().train(start, stop)
        while (batch := self.watch.around("loader", next)(batches, None)) is not None:
            yield batch


def measure_time_split(setting: Setting) -> Section:
    """Split steps of ResNets and of the demo's networks, with kd and with dct."""
    pairs = (TINY,) if setting.is_quick else (RESNETS, DEMO)
    columns = {(pair.name, method): split_step(pair, method) for pair in pairs for method in METHODS}
    names = (*PARTS, "other", "step")
    rows = tuple((part, *(_cell(column, part) for column in columns.values())) for part in names)
    header = ("part", *(f"{pair}: {method}" for pair, method in columns))
    about = (
        "Milliseconds per step, and share, on one thread, in the engine's loop (`dctkd.engine.train.train`); other: "
        "gradient norm, checks, meters, schedule, switching of random states."
    )
    return Section("Where the time of a step goes", about, tables=(Table(header, rows),))


def _cell(column: dict[str, float], part: str) -> str:
    return f"{column[part]:.2f} ({100 * column[part] / column['step']:.0f} %)"


def split_step(pair: Pair, method: str, epochs: int = 2) -> dict[str, float]:
    """Train a student for some epochs; return milliseconds per step by part."""
    with temporary_pack(experiment_of(pair, {method: None}, threads=1, epochs=epochs)) as pack:
        watch = Stopwatch()
        (learner,) = pack.learners
        with _watched(learner, watch):
            total_s = _train(pack, watch)
        pack.require_running()
    return watch.milliseconds(total_s)


def _train(pack: Pack, watch: Stopwatch) -> float:
    """Run the engine's loop; return the seconds of the steps that count."""
    (learner,) = pack.learners

    def after_step(_: Any) -> None:
        watch.steps += 1
        if learner.step == min(WARMUP_STEPS, pack.stream.total_steps - 1):
            watch.restart()

    settings = {field.name: getattr(pack.stream, field.name) for field in fields(pack.stream)}
    stream = _TimedStream(**settings, watch=watch)
    train(
        pack.learners,
        stream,
        teacher=watch.around("teacher", pack.teacher),
        after_step=after_step,
        after_epoch=lambda _: None,
        interrupt=Interrupt(),
    )
    return time.perf_counter() - watch.started_s


@contextmanager
def _watched(learner: Learner, watch: Stopwatch) -> Iterator[None]:
    """Measure the learner's forward, loss and optimiser, and every backward pass, while the block runs."""
    with (
        patch.object(learner.model, "forward", watch.around("student forward", learner.model.forward)),
        patch.object(learner.objective, "forward", watch.around("method and loss", learner.objective.forward)),
        patch.object(learner.optimiser, "step", watch.around("optimiser", learner.optimiser.step)),
        patch.object(torch.Tensor, "backward", watch.around("backward", torch.Tensor.backward)),
    ):
        yield
