"""Students side by side on one batch and one teacher pass; a teacher alone is a pack of one without a teacher."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack

import torch

from dctkd.data.cache import PixelCache
from dctkd.engine.build import build_learner, build_teacher, stages_of
from dctkd.engine.checkpoint import load_checkpoint, save_checkpoint
from dctkd.engine.device import claim_gpu
from dctkd.engine.evaluate import evaluate, top1_percent
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.engine.job import Job, Task
from dctkd.engine.learner import DivergedError, Learner, LoopShape
from dctkd.engine.progress import ProgressBar
from dctkd.engine.records import RunRecord, Speed, exported_weights
from dctkd.engine.stream import Stream
from dctkd.engine.train import TeacherPass, teacher_pass, train
from dctkd.errors import InputError

logger = logging.getLogger(__name__)


def train_tasks(job: Job, tasks: Sequence[Task], interrupt: Interrupt) -> list[Task]:
    """Train, test and store runs; all are claimed by the caller.

    Runs for which memory does not suffice side by side are tried again one by one.

    Returns:
        The tasks that crashed; state.json in their folders says why.

    Raises:
        InterruptedRunError: If asked to stop; every run is saved at the step where it stands.
    """
    with ExitStack() as stack:
        device = torch.device("cpu")
        if job.device == "cuda":
            if not torch.cuda.is_available():
                raise InputError(
                    "device: a GPU driver is loaded but this torch build cannot use it; "
                    "say --device cpu or install a CUDA build"
                )
            device = torch.device("cuda", stack.enter_context(claim_gpu(torch.cuda.device_count())))
        torch.set_num_threads(job.identity.recipe.threads)
        pack = _Pack(job, tasks, device)
        pack.train(interrupt)
        crashed = list(pack.crashed)
        for task in pack.too_large:
            logger.warning("%s runs out of memory beside %s others; trying it alone", task.run.path, len(tasks) - 1)
            alone = _Pack(job, [task], device)
            alone.train(interrupt)
            crashed += alone.crashed
        return crashed


class _Pack:
    """The learners of one process."""

    def __init__(self, job: Job, tasks: Sequence[Task], device: torch.device) -> None:
        self.job, self.tasks, self.device = job, list(tasks), device
        self.crashed: list[Task] = []
        self.too_large: list[Task] = []
        identity = job.identity
        self.cache = PixelCache.open(job.store.results / job.data["cache"])
        self.stream = Stream(
            self.cache, identity.data.input, identity.seed, identity.recipe.batch_size, identity.recipe.epochs, device
        )
        self.shape = LoopShape(self.stream.steps_per_epoch, self.stream.total_steps, device, tasks[0].precision)
        self.pairing = stages_of(identity)
        self.teacher: TeacherPass | None = None
        self.teacher_spec = None
        if job.teacher is not None:
            model, self.teacher_spec = build_teacher(job, self.cache, self.pairing, device)
            self.teacher = teacher_pass(model, self.shape.autocast)
        self.learners: dict[Task, Learner] = {}
        self.saved_s = time.monotonic()
        self.speed = Speed(job=job, num_learners=len(self.tasks), device=device)

    def train(self, interrupt: Interrupt) -> None:
        """Bring every task to a stored result, or say why not."""
        for task in self.tasks:
            self._build(task)
        with ProgressBar(self.stream, enabled=self.job.show_progress) as self.progress:
            try:
                train(
                    list(self.learners.values()),
                    self.stream,
                    teacher=None if self.teacher is None else self.speed.timed_teacher(self.teacher),
                    after_step=self._after_step,
                    after_epoch=self._after_epoch,
                    interrupt=interrupt,
                )
            except InterruptedRunError:
                self._save([learner for learner in self.learners.values() if learner.failure is None])
                raise
        self._finish()

    def _build(self, task: Task) -> None:
        record = RunRecord(self.job, task)
        try:
            learner = build_learner(self.job, task, self.cache, self.shape, self.pairing, self.teacher_spec)
            record.start(self.pairing)
            if (state := load_checkpoint(task.folder.path, digest=task.folder.digest)) is not None:
                learner.load_state_dict(state)
                logger.info("%s resumes at step %s of %s", task.run.path, learner.step, self.stream.total_steps)
        except InputError:
            raise
        except Exception as error:  # a method that cannot be built must not end the other students
            self._crash(task, error)
            return
        self.learners[task] = learner

    def _task_of(self, learner: Learner) -> Task:
        return next(task for task, other in self.learners.items() if other is learner)

    def _after_step(self, group: Sequence[Learner]) -> None:
        for learner in group:
            learner.teacher_passes_s += self.speed.last_teacher_pass_s
        self.progress.advance(group)
        if time.monotonic() - self.saved_s >= self.job.plan.config.checkpoint_every_s:
            self._save(group)

    def _save(self, learners: Sequence[Learner]) -> None:
        for learner in learners:
            save_checkpoint(self._task_of(learner).folder.path, learner.state_dict())
        self.saved_s = time.monotonic()

    def _after_epoch(self, group: Sequence[Learner]) -> None:
        every = self.job.identity.recipe.evaluate_every_epochs
        if every is not None and (group[0].epoch % every == 0 or not group[0].is_running):
            evaluations = evaluate(group, self.stream, num_classes=len(self.cache.classes))
            for learner, evaluation in zip(group, evaluations, strict=True):
                top1 = top1_percent(evaluation)
                learner.record("test", "top1_percent", top1, "percent")
                if top1 > learner.best.get("top1_percent", -1.0):
                    learner.best = {"top1_percent": top1, "epoch": learner.epoch}
                    if self.job.plan.config.keep_weights == "all":
                        learner.best["weights"] = exported_weights(learner.model)
        for learner in group:
            RunRecord(self.job, self._task_of(learner)).progress(learner, self.speed)

    def _finish(self) -> None:
        done = [learner for learner in self.learners.values() if learner.failure is None]
        with self.speed.timing_evaluation():
            evaluations = evaluate(done, self.stream, num_classes=len(self.cache.classes)) if done else []
        for learner, evaluation in zip(done, evaluations, strict=True):
            RunRecord(self.job, self._task_of(learner)).finish(learner, evaluation, self.cache, self.speed)
        for task, learner in self.learners.items():
            if isinstance(learner.failure, DivergedError):
                RunRecord(self.job, task).finish_without_result("diverged", learner, self.speed)
            elif learner.failure is not None and is_out_of_memory(learner.failure):
                if len(self.tasks) > 1:
                    self.too_large.append(task)
                else:
                    RunRecord(self.job, task).finish_without_result("oom", learner, self.speed)
            elif learner.failure is not None:
                self._crash(task, learner.failure)

    def _crash(self, task: Task, error: BaseException) -> None:
        self.crashed.append(task)
        text = "".join(traceback.format_exception(error))
        logger.error("%s crashed: %s", task.run.path, text)
        RunRecord(self.job, task).crash(f"{type(error).__name__}: {error}", text)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory did not suffice; torch on CPU raises a plain RuntimeError for it."""
    return isinstance(
        error, (MemoryError, torch.cuda.OutOfMemoryError)
    ) or "DefaultCPUAllocator: can't allocate" in str(error)
