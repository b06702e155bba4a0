"""What a job tells the process that started it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter


@dataclass
class Outcome:
    """Of one job.

    Attributes:
        student_images: Images that all its students were trained on.
        train_s: Seconds of the training loop: from the first request for a batch to the end of the last epoch.
    """

    student_images: int = 0
    train_s: float = 0.0

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Count the block's seconds as training."""
        started = perf_counter()
        yield
        self.train_s += perf_counter() - started

    def to_line(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_output(cls, text: str) -> Outcome:
        """Read it from what a job printed: its last line."""
        return cls(**json.loads(text.strip().splitlines()[-1]))
