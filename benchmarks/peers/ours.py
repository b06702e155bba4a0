"""Our job: what `dctkd train` does, with the clock on its training loop.

python -m benchmarks.peers.ours EXPERIMENT.yaml SEED ROW [ROW ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.outcome import Outcome
from dctkd.config import load
from dctkd.engine import pack
from dctkd.engine.interrupt import Interrupt
from dctkd.engine.job import make_job, run_job
from dctkd.plan import make_plan


def main(file: str, seed: str, *rows: str) -> None:
    """Train rows of an experiment whose images are packed and whose teacher is stored; print the outcome."""
    plan = make_plan(load(Path(file)), config_file=file)
    runs = [run for run in plan.runs if run.method in rows and run.seed == int(seed)]
    outcome = Outcome()
    train = pack.train

    def timed(learners: Any, *arguments: Any, **keywords: Any) -> None:
        with outcome.timing():
            train(learners, *arguments, **keywords)
        outcome.student_images += sum(learner.images_seen for learner in learners if learner.failure is None)

    pack.train = timed
    run_job(make_job(plan, runs, Path(file).parent / "results", device="cpu"), Interrupt())
    print(outcome.to_line())


if __name__ == "__main__":
    main(*sys.argv[1:])
