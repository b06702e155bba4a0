"""The elastic agent of torch, in a process of its own: starts the members of a group, ends all of them when one fails.

Called by group.py as `python -m dctkd.engine.agent FOLDER PROCESSES PARENT`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

from dctkd.engine.group import ENDS, see_members_off
from dctkd.engine.interrupt import EXIT_INTERRUPTED, die_with_parent

POLL_S = 0.1


def main(folder: Path, processes: int, parent: int) -> int:
    """Start the members and wait for their end.

    Args:
        folder: Of the group; ENDS in it tells afterwards how each member ended.
        processes: Members.
        parent: Process that this one must not outlive.

    Returns:
        0 if all members did what they were to do.
    """
    die_with_parent()
    if os.getppid() != parent:  # it died before the kernel was asked
        return EXIT_INTERRUPTED
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # members listen to it themselves
    logging.disable()  # torch tells at length what group.py says in one line
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # the machine's own name need not resolve
        max_restarts=0,
        monitor_interval=POLL_S,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "dctkd.engine.member", str(folder))
    except ChildFailedError as error:
        (folder / ENDS).write_text(json.dumps({rank: failure.exitcode for rank, failure in error.failures.items()}))
        return 1
    except SignalException:
        return EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would end torch's agent before its members
        see_members_off(folder)
        if os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
