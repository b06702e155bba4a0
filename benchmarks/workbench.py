"""An experiment in a folder of its own, with an untrained teacher, whose learners are built as the engine builds them.

Untrained networks cost what trained ones do: values do not change the time of a step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from dctkd.config import resolve
from dctkd.data.cache import PixelCache
from dctkd.engine.build import build_learner, build_teacher, stages_of
from dctkd.engine.interrupt import Interrupt
from dctkd.engine.job import Job, make_job, run_job
from dctkd.engine.learner import Learner, LoopShape
from dctkd.engine.packing import publish_data
from dctkd.engine.stream import Stream
from dctkd.engine.train import TeacherPass, _step, teacher_pass
from dctkd.plan import Plan, make_plan

CPU = torch.device("cpu")
LR = 1e-4
"""Small: students of an untrained teacher must not diverge, since a failed learner costs nothing."""


@dataclass(frozen=True)
class Pair:
    """Networks and the size of what they see.

    Attributes:
        name: For tables.
        teacher: Its entry under `models`.
        student: Likewise.
        image_side: Pixels of a rendered image's side.
        crop: Pixels of a crop's side.
        batch_size: Images of a batch.
        num_images: Rendered training images.
    """

    name: str
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    image_side: int = 72
    crop: int = 64
    batch_size: int = 64
    num_images: int = 960


def _small(*channels: int, **options: Any) -> dict[str, Any]:
    return {"architecture": "resnet18", "options": {"layers": [1, 1, 1, 1], "channels": list(channels), **options}}


_STEM = {"stem_type": "deep", "zero_init_last": False}
RESNETS = Pair("ResNet-50 to ResNet-18, 64 px", {"architecture": "resnet50"}, {"architecture": "resnet18"})
DEMO = Pair(
    "the demo's networks, 40 px",
    _small(16, 32, 64, 128, stem_width=8, **_STEM),
    _small(8, 16, 32, 64, stem_width=4, **_STEM),
    image_side=45,
    crop=40,
    num_images=3000,
)
TINY = Pair("tiny networks", _small(8, 8, 16, 16), _small(4, 4, 8, 8), 36, 32, 16, 48)


def experiment_of(pair: Pair, rows: Mapping[str, Any], *, threads: int, epochs: int = 1000) -> dict[str, Any]:
    """Return an experiment on rendered scenes as the mapping that YAML would give.

    Args:
        pair: Networks and sizes.
        rows: As `methods` of an experiment file.
        threads: CPU threads of the students' job.
        epochs: Of the students; by default more than any benchmark sees.
    """
    options = {"num_train_images": pair.num_images, "num_test_images": 12, "image_side": pair.image_side}
    recipe = {
        "epochs": epochs,
        "batch_size": pair.batch_size,
        "optimiser": {"name": "sgd", "lr": LR},
        "schedule": {"name": "cosine"},
        "threads": threads,
    }
    return {
        "experiment": "bench",
        "title": "A benchmark",
        "datasets": {"scenes": {"format": "synthscenes", "options": options, "input": {"crop": pair.crop}}},
        "models": {"teacher": dict(pair.teacher), "student": dict(pair.student)},
        "pairs": [{"teacher": "teacher", "student": "student"}],
        "methods": dict(rows),
        "recipes": {"student": recipe, "teacher": {**recipe, "epochs": 0, "threads": 1}},
        "student_recipe": "student",
        "teacher_recipe": "teacher",
        "seeds": [0],
        "device": "cpu",
    }


@dataclass(frozen=True)
class Pack:
    """What trains side by side, and on what."""

    learners: tuple[Learner, ...]
    stream: Stream
    teacher: TeacherPass

    def step_of(self, *learners: Learner, without_teacher: bool = False) -> Callable[[], float]:
        """Return the engine's step of these learners, the reading of the batch included; it returns its seconds."""
        batches = self.stream.train(0, self.stream.total_steps)
        teacher = None if without_teacher else self.teacher

        def step() -> float:
            started = time.perf_counter()
            _step(learners, next(batches), teacher)
            return time.perf_counter() - started

        return step

    def require_running(self) -> None:
        """Refuse times of learners that stopped.

        Raises:
            RuntimeError: With the reason.
        """
        for learner in self.learners:
            if learner.failure is not None:
                raise RuntimeError(f"{learner.name} failed while it was timed: {learner.failure.reason}")


@contextmanager
def temporary_pack(raw: Mapping[str, Any]) -> Iterator[Pack]:
    """Give all students of an experiment, ready to train, with torch at its recipe's threads."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        plan, results = prepare(raw, Path(folder))
        torch.set_num_threads(plan.config.recipes[plan.config.student_recipe].threads)
        try:
            yield pack_of(make_job(plan, plan.runs, results, device="cpu"))
        finally:
            torch.set_num_threads(threads)


def prepare(raw: Mapping[str, Any], folder: Path) -> tuple[Plan, Path]:
    """Write an experiment's file, pack its images and store its teachers.

    Returns:
        Its plan and its results folder, both in `folder`.
    """
    plan, results = write_experiment(raw, folder), folder / "results"
    pack_images(plan, results)
    for teacher in plan.teachers:
        run_job(make_job(plan, [teacher], results, device="cpu"), Interrupt())
    return plan, results


def write_experiment(raw: Mapping[str, Any], folder: Path) -> Plan:
    """Write an experiment's file, `<name>.yaml`, and return its plan."""
    file = folder / f"{raw['experiment']}.yaml"
    file.write_text(yaml.safe_dump(dict(raw), sort_keys=False))
    return make_plan(resolve(raw, where=str(file)), config_file=str(file))


def pack_images(plan: Plan, results: Path) -> None:
    """Make the pixel caches of an experiment, or take those that are there."""
    for dataset in plan.config.datasets:
        publish_data(plan, results / plan.name / dataset / "data.json", results, workers=2)


def pack_of(job: Job) -> Pack:
    """Build a job's learners and teacher."""
    identity = job.identity
    cache = PixelCache.open(job.store.results / job.data["cache"])
    recipe = identity.recipe
    stream = Stream(cache, identity.data.input, identity.seed, recipe.batch_size, recipe.epochs, CPU)
    shape = LoopShape(stream.steps_per_epoch, stream.total_steps, CPU, job.tasks[0].precision)
    pairing = stages_of(identity)
    model, teacher_spec = build_teacher(job, cache, pairing, CPU)
    learners = [build_learner(job, task, cache, shape, pairing, teacher_spec) for task in job.tasks]
    return Pack(tuple(learners), stream, teacher_pass(model, shape.autocast))
