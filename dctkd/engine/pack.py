"""Students side by side on one batch and one teacher pass; a teacher alone is a pack of one without a teacher."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NoReturn, Protocol

import torch

from dctkd.data.cache import PixelCache
from dctkd.data.disk_space import readable_bytes
from dctkd.data.held_out import hold_out
from dctkd.engine.allocator import give_memory_back, keep_freed_memory
from dctkd.engine.best_epochs import note_test
from dctkd.engine.build import Pairing, build_learner, build_teacher, stages_of
from dctkd.engine.checkpoint import checkpoints, save_checkpoint
from dctkd.engine.compiling import compile_network, forget_compiled, meaning_of
from dctkd.engine.evaluate import Evaluation, evaluate
from dctkd.engine.failure import LostLockError, SharedOutOfMemoryError
from dctkd.engine.footprint import Room, granted_bytes, teacher_bytes
from dctkd.engine.gpu import job_device
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.engine.job import Job, Task
from dctkd.engine.learner import GPU_LOOK_EVERY_STEPS, Learner, LoopShape
from dctkd.engine.progress import ProgressBar
from dctkd.engine.ranks import ALONE, AgreedInterrupt, Ranks, joined
from dctkd.engine.records import RunRecord, Speed, ending_of, exported_weights
from dctkd.engine.stream import Stream
from dctkd.engine.train import TeacherPass, teacher_pass, train
from dctkd.errors import InputError, is_out_of_memory
from dctkd.models import ModelSpec

logger = logging.getLogger(__name__)

SAVING_SHARE = 50
"""A checkpoint at the end of an epoch is left out if training since the last took less than so many times its cost."""


class Claim(Protocol):
    """What tells whether a run is still this process's to write."""

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the run over."""
        ...


Claims = Mapping[Task, Claim]


def train_tasks(job: Job, tasks: Sequence[Task], claims: Claims, interrupt: Interrupt) -> list[Task]:
    """Train, test and store runs that this process has claimed.

    Runs for which memory does not suffice side by side are trained in smaller packs, one after the other. A run that
    another process has taken over (`Held.is_lost`) is left to that one.

    Returns:
        The tasks that crashed; state.json in their folders says why.

    Raises:
        InterruptedRunError: If asked to stop; every run is saved at the step where it stands.
        OSError: If a result cannot be written; what was saved before is there.
    """
    with ExitStack() as stack:
        device = _prepared_device(job, stack)
        groups, crashed, may_be_resident = [list(tasks)], [], True
        while groups:
            group = groups.pop(0)
            pack = _Pack(job, group, device, claims, may_be_resident)
            pack.run(interrupt)
            crashed += pack.crashed
            if pack.too_large and pack.stream.is_resident:  # pixels leave the device before students do
                may_be_resident, parts = False, [pack.too_large]
            else:
                parts = _smaller(pack.tasks, pack.too_large)
            groups += [*([pack.postponed] if pack.postponed else []), *parts]
            del pack  # before the next one is built: its memory is what is lacking
            forget_compiled(job.identity.recipe.compile)
            if groups:
                give_memory_back()
        return crashed


def train_share(job: Job, claims: Claims, interrupt: AgreedInterrupt, *, may_be_resident: bool) -> None:
    """Train, test and store a job's one run together with other processes, which do the same.

    Args:
        job: A job of one task.
        claims: Whether the run is still the launching process's.
        interrupt: Asked in every step; all processes stop together.
        may_be_resident: Whether a GPU may hold all pixels.

    Raises:
        InterruptedRunError: In all processes; the run is saved.
        SharedOutOfMemoryError: If memory does not suffice in this process; the others are to be ended.
        Exception: Whatever else this process cannot go on after; likewise.
    """
    with ExitStack() as stack:
        device = _prepared_device(job, stack)
        ranks = stack.enter_context(joined(device, interrupt))
        stack.enter_context(interrupt.listening())  # from here on: who still waits for the others has nothing to save
        try:
            _Pack(job, job.tasks, device, claims, may_be_resident, ranks).run(interrupt)
        except InterruptedRunError:
            ranks.wait()
            raise


def _prepared_device(job: Job, stack: ExitStack) -> torch.device:
    """Set torch's threads and return the device, which is this process's until the stack is left."""
    torch.set_num_threads(job.identity.recipe.threads)
    keep_freed_memory()
    return stack.enter_context(job_device(job.device))


def _smaller(group: list[Task], too_large: list[Task]) -> list[list[Task]]:
    """Return the packs in which what did not fit is tried next: what left a pack together, or halves of a whole one."""
    if not too_large:
        return []
    parts = [too_large] if len(too_large) < len(group) else [group[::2], group[1::2]]
    logger.warning(
        "%s of %s students do not fit into memory side by side; they are trained again in packs of %s, from their last "
        "checkpoints (students_per_job of the experiment cuts smaller packs from the start)",
        len(too_large),
        len(group),
        " and ".join(str(len(part)) for part in parts),
    )
    return parts


class _Pack:
    """The learners of one process."""

    def __init__(
        self,
        job: Job,
        tasks: Sequence[Task],
        device: torch.device,
        claims: Claims,
        may_be_resident: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        self.job, self.tasks, self.device, self.claims = job, list(tasks), device, claims
        self.ranks, self.is_shared = ranks, ranks.part.num_ranks > 1
        self.crashed: list[Task] = []
        self.too_large: list[Task] = []
        self.postponed: list[Task] = []
        self.stored: set[Task] = set()
        self.learners: dict[Task, Learner] = {}
        self.saved_at: dict[Task, tuple[int, int]] = {}
        self.saved_s, self.saving_s = time.monotonic(), 0.0
        self.speed = Speed(job=job, num_learners=len(self.tasks), device=device)
        identity = job.identity
        inputs, recipe = identity.data.input, identity.recipe
        cache = job.pixels or PixelCache.open(job.store.results / job.data["cache"])
        self.cache = hold_out(cache, recipe.held_out_fraction)
        self.stream = stream = Stream(
            self.cache, inputs, identity.seed, recipe.batch_size, recipe.epochs, device, may_be_resident, ranks.part
        )
        look = GPU_LOOK_EVERY_STEPS if device.type == "cuda" else 1
        self.shape = LoopShape(stream.steps_per_epoch, stream.total_steps, device, tasks[0].precision, look, ranks)

    @property
    def can_take_less(self) -> bool:
        """Tell whether another try with fewer students, or with the pixels off the device, would need less memory."""
        return len(self.tasks) > 1 or self.stream.is_resident

    def run(self, interrupt: Interrupt) -> None:
        """Bring every task to a stored result, or say why not."""
        try:
            self._build(interrupt)
            self._train(interrupt)
            self._finish(interrupt)
        except InterruptedRunError:
            self._save(self._standing())
            raise
        except Exception as error:
            meant = meaning_of(error, self.job.identity.recipe.compile)
            if not is_out_of_memory(meant):
                raise
            if self.is_shared:
                self._end_all_for(meant)
            self._save(self._standing())
            self._run_out_of_memory(meant)

    def _end_all_for(self, error: Exception) -> NoReturn:
        """Leave the other processes, which are in the middle of a step, with what the run's record needs."""
        learner = next(iter(self._standing()), None)
        if learner is None:
            raise error
        learner.fail(error)
        raise SharedOutOfMemoryError(ending_of(learner, self.speed), is_resident=self.stream.is_resident) from error

    def _standing(self) -> list[Learner]:
        """Learners that stand between two steps and whose results are not stored yet."""
        return [
            learner for task, learner in self.learners.items() if learner.failure is None and task not in self.stored
        ]

    def _run_out_of_memory(self, error: BaseException) -> None:
        """Note that memory did not suffice for what all share: the teacher's pass, a batch, a test, a result."""
        if self.can_take_less:
            self.too_large = [task for task in self.tasks if task not in self.stored and task not in self.crashed]
            return
        learner = next(iter(self._standing()), None)
        if learner is None:
            raise error
        learner.fail(error)
        RunRecord(self.job, self.tasks[0]).finish_without_result(learner, self.speed)

    def _build(self, interrupt: Interrupt) -> None:
        pairing = stages_of(self.job.identity)
        self.teacher: TeacherPass | None = None
        teacher_spec = None
        granted = granted_bytes(self.device, self.job.identity.recipe.threads)  # before the teacher takes of it
        shared = self.stream.resident_bytes
        if self.job.teacher is not None:
            model, teacher_spec = build_teacher(self.job, self.cache, pairing, self.device)
            compile_network(model, self.job.identity.recipe.compile, self.device)
            self.teacher = teacher_pass(model, self.shape.autocast)
            shared += teacher_bytes(model, teacher_spec, self.stream.batch_size)
        room = Room(granted, shared=shared)
        for position, task in enumerate(self.tasks):
            self.ranks.agree()
            interrupt.raise_if_requested()
            learner = self._built(task, pairing, teacher_spec)
            if learner is None:
                continue
            if len(self.tasks) > 1 and not room.takes(learner):
                self._postpone(position, granted)
                break
            self.ranks.require_same("position", (learner.step, learner.closed_epochs))
            compile_network(learner.model, self.job.identity.recipe.compile, self.device)
            self.learners[task] = learner
        self.speed.num_learners = len(self.learners)

    def _built(self, task: Task, pairing: Pairing, teacher: ModelSpec | None) -> Learner | None:
        """Set a run to its start or to where it was saved; None if that crashes, which must not end the others."""
        try:
            learner = build_learner(self.job, task, self.cache, self.shape, pairing, teacher)
            if self.ranks.is_first:
                RunRecord(self.job, task).start(pairing)
            if not self._resume(task, learner):
                learner = build_learner(self.job, task, self.cache, self.shape, pairing, teacher)
        except (InputError, OSError):
            raise
        except Exception as error:
            if is_out_of_memory(error) or self.is_shared:
                raise
            self._crash(task, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))
            return None
        return learner

    def _postpone(self, position: int, granted: int) -> None:
        """Leave the tasks from a position on to a later pack."""
        self.tasks, self.postponed = self.tasks[:position], self.tasks[position:]
        logger.info(
            "%s students are trained first, %s after them: the job may take %s of memory",
            len(self.learners),
            len(self.postponed),
            readable_bytes(granted),
        )

    def _resume(self, task: Task, learner: Learner) -> bool:
        """Continue from the newest checkpoint that fits; tell whether the learner can be used as it is now."""
        has_tried = False
        for state in checkpoints(task.folder.path, digest=task.folder.digest):
            try:
                learner.load_state_dict(state)
            except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                logger.warning("%s: a checkpoint does not fit this version (%s); it is not used", task.run.path, reason)
                has_tried = True
                continue
            self.saved_at[task] = (learner.step, learner.closed_epochs)
            logger.info("%s resumes at step %s of %s", task.run.path, learner.step, self.stream.total_steps)
            return True
        return not has_tried

    def _train(self, interrupt: Interrupt) -> None:
        with ProgressBar(self.stream, enabled=self.job.show_progress) as self.progress:
            train(
                list(self.learners.values()),
                self.stream,
                teacher=None if self.teacher is None else self.speed.timed_teacher(self.teacher),
                after_step=self._after_step,
                after_epoch=lambda group: self._after_epoch(group, interrupt),
                interrupt=interrupt,
            )

    def _task_of(self, learner: Learner) -> Task:
        return next(task for task, other in self.learners.items() if other is learner)

    def _after_step(self, group: Sequence[Learner]) -> None:
        teacher_pass_s = self.speed.take_teacher_pass_s()
        for learner in group:
            learner.teacher_passes_s += teacher_pass_s
        self.progress.advance(group)
        if self.is_shared and group and not self.shape.is_look(group[0].step - 1):
            return
        if self._leave_what_is_lost(group, self.ranks.is_first and self._is_save_due(group)):
            self._save([learner for learner in group if learner.failure is None])

    def _is_save_due(self, group: Sequence[Learner]) -> bool:
        elapsed_s = time.monotonic() - self.saved_s
        has_ended_epoch = bool(group) and group[0].step % self.stream.steps_per_epoch == 0
        return elapsed_s >= self.job.plan.config.checkpoint_every_s or (
            has_ended_epoch and elapsed_s >= SAVING_SHARE * self.saving_s
        )

    def _leave_what_is_lost(self, group: Sequence[Learner], wants_save: bool = False) -> bool:
        """Fail learners whose runs another process has taken over; tell whether a save is due, as all agree."""
        is_lost = [self.claims[self._task_of(learner)].is_lost for learner in group]
        *lost, is_save_due = self.ranks.agree(*is_lost, wants_save)
        for learner, has_gone in zip(group, lost, strict=True):
            if has_gone:
                learner.fail(LostLockError(f"{learner.name} is being trained by another process now"))
        return is_save_due

    def _save(self, learners: Sequence[Learner]) -> None:
        """Write checkpoints. Where that fails the training goes on: only a later kill would cost more."""
        started_s = time.monotonic()
        for learner in learners:
            task, position = self._task_of(learner), (learner.step, learner.closed_epochs)
            if self.saved_at.get(task) == position or not learner.step:
                continue
            if self.ranks.agree(self._is_written(task, learner))[0]:
                self.saved_at[task] = position
        self.saved_s = time.monotonic()
        self.saving_s = self.saved_s - started_s

    def _is_written(self, task: Task, learner: Learner) -> bool:
        """Write a checkpoint, in the first process; tell whether that is done."""
        try:
            state = learner.state_dict()
            if not self.ranks.is_first:
                return False
            save_checkpoint(task.folder.path, state)
        except Exception as error:
            if not isinstance(error, OSError) and not is_out_of_memory(error):
                raise
            logger.warning("%s cannot be saved (%s); what was saved before is kept", learner.name, error)
            return False
        return True

    def _after_epoch(self, group: Sequence[Learner], interrupt: Interrupt) -> None:
        every = self.job.identity.recipe.evaluate_every_epochs
        keeps_best = self.job.plan.config.keep_weights == "all"
        if every is not None and (group[0].epoch % every == 0 or group[0].step == self.stream.total_steps):
            for learner, evaluation in zip(group, self._evaluate(group, interrupt), strict=self.ranks.is_first):
                note_test(learner, evaluation, export=exported_weights if keeps_best else None)
        for learner in group if self.ranks.is_first else ():
            RunRecord(self.job, self._task_of(learner)).progress(learner, self.speed)

    def _evaluate(self, learners: Sequence[Learner], interrupt: Interrupt) -> list[Evaluation]:
        num_classes = len(self.cache.classes)
        return evaluate(learners, self.stream, num_classes=num_classes, interrupt=interrupt, ranks=self.ranks)

    def _finish(self, interrupt: Interrupt) -> None:
        self._leave_what_is_lost(self._standing())
        done = self._standing()
        with self.speed.timing_evaluation():
            evaluations = self._evaluate(done, interrupt) if done else []
        if not self.ranks.is_first:
            return
        for learner, evaluation in zip(done, evaluations, strict=True):
            task = self._task_of(learner)
            RunRecord(self.job, task).finish(learner, evaluation, self.cache, self.speed)
            self.stored.add(task)
        for task, learner in self.learners.items():
            failure = learner.failure
            if failure is None or failure.kind == "lost":
                continue
            if failure.kind in ("oom", "perhaps_oom") and self.can_take_less:
                self.too_large.append(task)
            elif failure.kind in ("crashed", "perhaps_oom"):
                self._crash(task, failure.reason, failure.trace)
            else:
                RunRecord(self.job, task).finish_without_result(learner, self.speed)

    def _crash(self, task: Task, reason: str, trace: str) -> None:
        self.crashed.append(task)
        logger.error("%s crashed: %s", task.run.path, trace)
        RunRecord(self.job, task).crash(reason, trace)
