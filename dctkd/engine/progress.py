"""A progress bar for a job on a terminal: loss, accuracy, images/s, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dctkd.engine.learner import Learner
from dctkd.engine.stream import Stream

REFRESH_S = 0.5


class ProgressBar:
    """One bar for all learners of a process, drawn on standard error; silent where it is not enabled."""

    def __init__(self, stream: Stream, *, enabled: bool) -> None:
        self.stream = stream
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[news]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self.bar = self.progress.add_task("training", total=stream.total_steps, news="")
        self._started_s, self._first_step = time.monotonic(), 0
        self._refreshed_s = -REFRESH_S

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def advance(self, group: Sequence[Learner]) -> None:
        """Show where the group stands; numbers are those of the last whole epoch, so that no step waits for them."""
        now = time.monotonic()
        if self.progress.disable or not group or now - self._refreshed_s < REFRESH_S:
            return
        if self._refreshed_s < 0:
            self._started_s, self._first_step = now, group[0].step
        self._refreshed_s = now
        first = group[0]
        rate = (first.step - self._first_step) * self.stream.batch_size * len(group) / max(now - self._started_s, 1e-9)
        loss, top1 = first.last("train", "loss"), first.last("train", "top1_percent")
        news = f"{len(group)} learners · {rate:.0f} images/s"
        if loss is not None and top1 is not None:
            news += f" · loss {loss:.3f} · top-1 {top1:.1f} %"
        self.progress.update(
            self.bar, completed=first.step, news=news, description=f"epoch {first.epoch + 1}/{self.stream.epochs}"
        )
