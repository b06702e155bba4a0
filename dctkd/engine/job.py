"""A job: what is finished is published at once, the rest is claimed and trained.

Imports no torch until something must be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dctkd.engine.device import DeviceKind, Precision, resolve_device, resolve_precision
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.errors import InputError
from dctkd.identity import Identity
from dctkd.large_imports import import_large
from dctkd.late_files import latency_of, settled
from dctkd.locks import Held, Patience
from dctkd.plan import Plan, Run
from dctkd.store import RunFolder, Store, digest_of, read_edge

if TYPE_CHECKING:
    from dctkd.data.cache import PixelCache


class FailedRunsError(Exception):
    """Some runs of the job crashed; the others are in the store."""


@dataclass(frozen=True, eq=False)
class Task:
    """One wanted run with what only the job knows of it."""

    run: Run
    folder: RunFolder
    precision: Precision
    pretrained_sha256: str | None = None


@dataclass(frozen=True)
class Job:
    """Runs that share dataset, recipe, seed and teacher, and the place where they are trained."""

    plan: Plan
    store: Store
    tasks: tuple[Task, ...]
    data: dict[str, Any]
    teacher: Run | None
    teacher_folder: RunFolder | None
    device: DeviceKind
    show_progress: bool
    pixels: PixelCache | None = None

    @contextmanager
    def with_pixels(self, ask: Callable[[], object] = lambda: None) -> Iterator[Job]:
        """Give the job with its pixels opened, from this node's disk if the experiment has them staged there.

        Args:
            ask: Called now and then while pixels are copied; may raise, to stop the job.
        """
        from dctkd.data.staging import Staging, near_pixels

        config = self.plan.config
        limit = None if config.stage_limit_gb is None else config.stage_limit_gb * 1e9
        staging = None if config.stage_to is None else Staging(config.stage_to, limit)
        shared, latency_s = self.store.results / self.data["cache"], self.store.latency_s or 0.0
        with near_pixels(shared, self.data["fingerprint"], staging, latency_s=latency_s, ask=ask) as cache:
            yield replace(self, pixels=cache)

    @property
    def identity(self) -> Identity:
        """Identity of the first run; what it shares with the others may be read from it."""
        return Identity.model_validate(self.tasks[0].run.identity)


def make_job(
    plan: Plan, runs: Sequence[Run], results: Path, *, device: str = "auto", show_progress: bool = False
) -> Job:
    """Resolve runs to their folders in the store.

    Args:
        plan: The experiment.
        runs: Teachers' or students' runs that share dataset, seed and teacher.
        results: The results folder, with the edges that the runs depend on.
        device: auto, cpu or cuda.
        show_progress: Draw a progress bar on the terminal.

    Raises:
        InputError: If the dataset or the teacher is missing or unusable, or the runs do not belong in one job.
    """
    first = runs[0]
    if len({(run.dataset, run.seed, run.identity.get("teacher_spec"), run.identity["kind"]) for run in runs}) > 1:
        raise InputError(
            "runs of one job must share dataset, teacher and seed; call dctkd train once for each combination"
        )
    latency_s = latency_of(results, plan.config.shared_results, plan.config.latency_s)
    store = Store(results, latency_s)
    data = read_edge(results / plan.name / first.dataset / "data.json", latency_s)
    teacher = teacher_folder = None
    if first.student is not None:
        teacher = plan.teacher_of(first)
        edge = read_edge(results / teacher.path, latency_s)
        if edge.get("status") != "ok":
            raise InputError(
                f"{results / teacher.path}: the teacher's status is {edge.get('status')}, students need one that is "
                "ok; change teacher_recipe"
            )
        teacher_folder = store.folder(edge["digest"])
    kind = resolve_device(device)
    tasks = []
    for run in runs:
        precision = resolve_precision(run.identity["recipe"]["precision"], kind)
        weights = _pretrained_weights(run)
        digest = digest_of(
            run.spec,
            fingerprint=data["fingerprint"],
            teacher=teacher_folder.digest if teacher_folder else None,
            precision=precision,
            weights=weights,
        )
        tasks.append(Task(run, store.folder(digest), precision, weights))
    return Job(plan, store, tuple(tasks), data, teacher, teacher_folder, kind, show_progress)


def _pretrained_weights(run: Run) -> str | None:
    model = run.identity["model"]
    if not model["pretrained"]:
        return None
    from dctkd.weights import pretrained_sha256

    return pretrained_sha256(model["architecture"])


def run_job(job: Job, interrupt: Interrupt) -> None:
    """Publish what is finished, train what can be claimed, wait for what another process trains.

    Locks are taken without waiting and given back before anything is waited for, so packs that share runs cannot
    deadlock.

    Raises:
        FailedRunsError: After all others are in the store, if a run crashed.
        InterruptedRunError: If asked to stop, or at the limit of waiting; everything is saved.
    """
    failed: list[Task] = []
    trained: set[Task] = set()
    patience = Patience(job.plan.config.wait_limit_s)
    pending = list(job.tasks)
    while pending := [task for task in pending if task not in failed and not task.folder.is_finished()]:
        _refuse_to_train_twice(pending, trained)
        with ExitStack() as stack:
            claims = _claim(pending, stack, interrupt)
            if claims:
                failed += _train(job, claims, interrupt)
                trained |= {task for task, held in claims.items() if not held.is_lost}
                continue
        _wait_for(pending, patience, interrupt)
    for task in job.tasks:
        if task not in failed:
            job.store.publish(task.run, task.folder)
    if failed:
        names = ", ".join(task.run.path for task in failed)
        reason = "why stands in state.json and log.txt of their folders in the store"
        raise FailedRunsError(f"{len(failed)} of {len(job.tasks)} runs crashed: {names}; {reason}")


def _claim(pending: Sequence[Task], stack: ExitStack, interrupt: Interrupt) -> dict[Task, Held]:
    """Return the locks of the runs that nobody else trains, and that are not finished."""
    new, claims = set(), {}
    for task in pending:
        new |= {task} if task.folder.make() else set()
        held = task.folder.claim()
        if held is not None:
            claims[task] = stack.enter_context(held)
    _let_results_be_seen([task.folder for task in claims if task not in new], interrupt)
    for task in list(claims):
        if task.folder.is_finished():  # between the two looks
            del claims[task]
        else:
            task.folder.discard_damage()
    return claims


def _let_results_be_seen(folders: Sequence[RunFolder], interrupt: Interrupt) -> None:
    """Where results are shared, give what another machine has finished the time to be seen; the locks are ours."""
    if folders and folders[0].latency_s:
        settled(
            lambda: all(folder.is_finished() for folder in folders),
            bool,
            [folder.path for folder in folders],
            folders[0].latency_s,
            ask=interrupt.raise_if_requested,
        )


def _train(job: Job, claims: Mapping[Task, Held], interrupt: Interrupt) -> list[Task]:
    if job.identity.recipe.processes is not None:
        from dctkd.engine.group import train_in_groups

        return train_in_groups(job, list(claims), claims, interrupt)
    import_large("timm", "dctkd.engine.pack")
    from dctkd.engine.pack import train_tasks

    with job.with_pixels(interrupt.raise_if_requested) as ready:
        return train_tasks(ready, list(claims), claims, interrupt)


def _refuse_to_train_twice(pending: Sequence[Task], trained: set[Task]) -> None:
    """Stop instead of training for ever what does not become finished."""
    for task in pending:
        folder = task.folder
        if task in trained and not settled(folder.is_finished, bool, folder.path, folder.latency_s):
            raise InputError(
                f"{task.folder.path}: the run is trained but cannot be read back ({'; '.join(task.folder.damage())}); "
                "delete that folder, check the disk, and run the same command again"
            )


def _wait_for(pending: Sequence[Task], patience: Patience, interrupt: Interrupt) -> None:
    interrupt.raise_if_requested()
    others = ", ".join(f"{task.run.path} is trained by {task.folder.owner()}" for task in pending)
    if patience.is_over:
        raise InterruptedRunError(f"wait_limit_s is over: {others}; run the same command again to go on")
    patience.wait(others)
