"""One run trained by several processes: starts them, passes on what is asked of the job, and says how they ended.

    this process    holds the run's lock and heartbeat, publishes; loads no torch
      agent         torch's elastic agent (agent.py): starts the processes, ends all when one fails
        members     a process per GPU (member.py); the first writes the run's folder

Each dies with the one above it. They share a temporary folder: what to do (PLAN, ORDER), the wish to stop (STOP), each
member's process id and, if it failed, why.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from dctkd.engine.interrupt import EXIT_INTERRUPTED, Interrupt, InterruptedRunError
from dctkd.engine.job import Job, Task
from dctkd.errors import InputError
from dctkd.locks import Held
from dctkd.plan import Plan

logger = logging.getLogger(__name__)

PLAN, ORDER, STOP, ENDS = "plan.json", "order.json", "stop", "ends.json"
EXIT_BEREFT = 76
"""A member's status when others have left it alone in the middle of something."""

LOOK_S = 0.1
LEAVE_S = 30.0
"""Seconds that members have to end after their agent is gone, as long as the agent gives them."""


@dataclass(frozen=True)
class Order:
    """What members are to train.

    Attributes:
        edge: Where the run is published, below the results folder.
        results: The results folder.
        device: Kind of device.
        digest: Of the run, as this process has it.
        lock: The run's lock.
        token: Of the lock's holder.
        show_progress: Whether the first member draws a progress bar.
        may_be_resident: Whether GPUs may hold all pixels.
    """

    edge: str
    results: str
    device: str
    digest: str
    lock: str
    token: str
    show_progress: bool
    may_be_resident: bool = True


def train_in_groups(job: Job, tasks: Sequence[Task], claims: Mapping[Task, Held], interrupt: Interrupt) -> list[Task]:
    """Train, test and store runs one after the other, each by as many processes as its recipe says.

    Returns:
        The tasks that crashed; state.json in their folders says why.

    Raises:
        InterruptedRunError: If asked to stop; the run is saved at the step where it stood.
        InputError: If a member met what the user can mend.
        OSError: If a member could not write.
    """
    return [task for task in tasks if not _is_trained(job, task, claims[task], interrupt)]


def _is_trained(job: Job, task: Task, held: Held, interrupt: Interrupt) -> bool:
    """Train one run; tell whether it has a result or is another process's now."""
    results, lock = str(job.store.results.resolve()), str(held.path.resolve())
    order = Order(task.run.path, results, job.device, task.folder.digest, lock, held.owner.token, job.show_progress)
    try:
        report = _run(order, job, held, interrupt)
    except InterruptedRunError:
        if held.is_lost and not interrupt.requested:
            return True
        raise
    if report.get("kind") == "oom" and report["is_resident"]:
        logger.warning("%s: memory does not suffice; the pixels leave the GPUs", task.run.path)
        report = _run(replace(order, may_be_resident=False), job, held, interrupt)
    if not report:
        held.beat()  # a member may have found the lock taken over before this process did
        return True
    from dctkd.engine.records import RunRecord

    record = RunRecord(job, task)
    if report["kind"] == "oom":
        record.finish_with(report["ending"])
        return True
    logger.error("%s crashed: %s", task.run.path, report["trace"].rstrip())
    record.crash(report["reason"], report["trace"])
    return False


def _plan_of(job: Job, order: Order) -> Plan:
    """Return the plan with the run and its teacher alone."""
    run = job.plan.at(order.edge)
    if job.teacher is None:
        return replace(job.plan, teachers=(run,), runs=(), packs=())
    return replace(job.plan, teachers=(job.teacher,), runs=(run,), packs=())


def _run(order: Order, job: Job, held: Held, interrupt: Interrupt) -> dict[str, Any]:
    """Let the members of a group work; return what the one reports that ended it, empty if none did.

    Raises:
        As `train_in_groups`.
    """
    recipe = job.identity.recipe
    assert recipe.processes is not None
    with tempfile.TemporaryDirectory(prefix="dctkd-group-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        (folder / PLAN).write_text(_plan_of(job, order).to_json())
        (folder / ORDER).write_text(json.dumps(asdict(order)))
        command = [sys.executable, "-P", "-m", "dctkd.engine.agent", place, str(recipe.processes), str(os.getpid())]
        # A session of its own: Ctrl-C reaches this process alone, which passes it on as the wish to stop.
        environment = {**os.environ, "OMP_NUM_THREADS": str(recipe.threads)}
        environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of what ranks.py does on purpose
        agent = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            _wait_for(agent, folder / STOP, held, interrupt)
        except BaseException:
            agent.terminate()
            raise
        finally:
            agent.wait()
            see_members_off(folder)
        return _outcome(folder, agent.returncode, interrupt)


def _wait_for(agent: subprocess.Popen[bytes], stop: Path, held: Held, interrupt: Interrupt) -> None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            agent.wait(LOOK_S)
            return
        if interrupt.requested or held.is_lost:
            stop.touch()


def see_members_off(folder: Path) -> None:
    """Wait for members that torch's agent has left behind, and in the end kill them.

    It does when it is killed, or told twice to stop. No run is to be written to any more when its lock is given back.
    """
    import psutil

    members = []
    for file in folder.glob("*.pid"):
        with suppress(psutil.NoSuchProcess, ValueError):
            number, started_s = file.read_text().split()
            process = psutil.Process(int(number))
            members += [process] if process.create_time() == float(started_s) else []
    for process in psutil.wait_procs(members, LEAVE_S)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _outcome(folder: Path, status: int, interrupt: Interrupt) -> dict[str, Any]:
    """Return the report of the member that ended the group, empty if none did; raises what is not about the run."""
    if status == 0:
        return {}
    reports = [report for file in sorted(folder.glob("*.report")) if (report := _read(file))]
    for report in reports:
        if report["kind"] != "bereft":
            return report if report["kind"] in ("oom", "crashed") else _raise(report)
    ends = _read(folder / ENDS)
    if status == EXIT_INTERRUPTED or (ends and set(ends.values()) <= {EXIT_INTERRUPTED, -signal.SIGTERM}):
        interrupt.raise_if_requested()
        raise InterruptedRunError("stopped by a signal to one of its processes; run the same command again to go on")
    consequences = (EXIT_INTERRUPTED, EXIT_BEREFT, -signal.SIGTERM)
    told = [f"rank {rank} {_how(end)}" for rank, end in sorted(ends.items()) if end not in consequences]
    if not told and reports:  # nobody ended by itself: they have lost sight of each other
        return {**reports[0], "kind": "crashed"}
    culprits = ", ".join(told) or f"the agent of the run's processes {_how(status)}"
    reason = f"{culprits}; the run goes on from its last checkpoint when the same command is run again"
    return {"kind": "crashed", "reason": reason, "trace": reason}


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


def _raise(report: dict[str, Any]) -> NoReturn:
    if report["kind"] == "input":
        raise InputError(report["message"])
    raise OSError(report["errno"], report["strerror"], report["filename"])


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content
