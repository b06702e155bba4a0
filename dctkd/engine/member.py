"""One of the processes that train a run together. Called by the agent as `python -m dctkd.engine.member FOLDER`."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

from dctkd.engine.failure import SharedOutOfMemoryError
from dctkd.engine.group import EXIT_BEREFT, ORDER, PLAN, STOP, Order
from dctkd.engine.interrupt import EXIT_INTERRUPTED, InterruptedRunError, die_with_parent
from dctkd.engine.job import Job, make_job
from dctkd.errors import InputError
from dctkd.large_imports import import_large
from dctkd.locks import read_owner

LOCK_LOOK_S = 1.0


class LentLock:
    """The run's lock, which the launching process holds, as the processes see it that write for it."""

    def __init__(self, path: Path, token: str) -> None:
        """Watch the lock at a path as long as its holder has this token."""
        self._path, self._token = path, token
        self._looked_s, self._num_foreign = time.monotonic(), 0

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the run over: the record in the lock is not the lender's any more."""
        if self._num_foreign < 2 and time.monotonic() - self._looked_s >= LOCK_LOOK_S:
            self._looked_s = time.monotonic()
            owner = read_owner(self._path)
            # Twice: whoever takes a lock empties it first, and a network file system may be out of reach for a while.
            self._num_foreign = 0 if owner is not None and owner.token == self._token else self._num_foreign + 1
        return self._num_foreign >= 2


def main(folder: Path) -> int:
    """Do one process's share of a run; what ends it is reported in the group's folder.

    Returns:
        0 if the run has a result, or is another process's now; 75 if it was stopped and saved; else it failed here.
    """
    die_with_parent()
    rank = os.environ["RANK"]
    (folder / f"{rank}.pid").write_text(f"{os.getpid()} {psutil.Process().create_time()}")
    level = logging.INFO if rank == "0" else logging.ERROR  # what all of them see is told once
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    try:
        _train(folder)
    except InterruptedRunError:
        return EXIT_INTERRUPTED
    except Exception as error:
        report = _report(error)
        (folder / f"{rank}.new").write_text(json.dumps(report))
        (folder / f"{rank}.new").replace(folder / f"{rank}.report")
        return EXIT_BEREFT if report["kind"] == "bereft" else 1
    return 0


def _train(folder: Path) -> None:
    order = Order(**json.loads((folder / ORDER).read_bytes()))
    import_large("timm", "dctkd.engine.pack")
    from dctkd.engine.pack import train_share
    from dctkd.engine.ranks import AgreedInterrupt
    from dctkd.plan_file import read_plan_of_jobs

    plan = read_plan_of_jobs(folder / PLAN)
    is_first = os.environ["RANK"] == "0"
    shows = order.show_progress and is_first
    if shows:
        logging.getLogger().setLevel(logging.WARNING)
    job = make_job(plan, [plan.at(order.edge)], Path(order.results), device=order.device, show_progress=shows)
    if job.tasks[0].folder.digest != order.digest:
        raise InputError(f"{order.edge}: the run changed while its processes were started; run the same command again")
    _require_gpus(job)
    claims = {task: LentLock(Path(order.lock), order.token) for task in job.tasks}
    with job.with_pixels() as ready:
        train_share(ready, claims, AgreedInterrupt(folder / STOP), may_be_resident=order.may_be_resident)


def _require_gpus(job: Job) -> None:
    import torch

    wanted, seen = job.identity.recipe.processes or 1, torch.cuda.device_count()
    if job.device == "cuda" and seen < wanted:
        raise InputError(f"recipes: processes: {wanted} need a GPU each, but this job sees {seen}; set processes to it")


def _is_of_a_peer(error: BaseException) -> bool:
    """Tell whether an exception says that another process is gone, which then is the one to ask."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _report(error: Exception) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, InputError):
        return {"kind": "input", "message": str(error)}
    if isinstance(error, SharedOutOfMemoryError):
        return {"kind": "oom", "ending": error.ending, "is_resident": error.is_resident}
    if isinstance(error, OSError) and error.errno is not None:
        filename = None if error.filename is None else str(error.filename)
        return {"kind": "system", "errno": error.errno, "strerror": error.strerror, "filename": filename}
    kind = "bereft" if _is_of_a_peer(error) else "crashed"
    return {"kind": kind, "reason": f"{type(error).__name__}: {error}", "trace": trace}


def run() -> None:
    """Do this process's share and end without waiting for what torch has left running."""
    status = main(Path(sys.argv[1]))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
