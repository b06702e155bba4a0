"""A batch system for tests, no real PBS: bounded slots, a queue that forgets what has ended, jobs that can be lost.

fake_batch.py submit NAME LOG SCRIPT | list | cancel ID...

State lies in $FAKE_BATCH: `queue/ID` exists while a job waits or runs, `submitted` has a line per submission. A
job whose name begins as the file `lose` says leaves the queue without having run; while `down` exists no command works.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ.get("FAKE_BATCH", "."))
NUM_SLOTS = int(os.environ.get("FAKE_BATCH_SLOTS", "2"))
GRACE_S = 20


def submit(name, log, script):
    number = len((STATE / "submitted").read_text().splitlines()) + 1 if (STATE / "submitted").exists() else 1
    entry = STATE / "queue" / str(number)
    entry.parent.mkdir(exist_ok=True)
    entry.touch()
    num_open = len(list(entry.parent.iterdir()))
    with (STATE / "submitted").open("a") as file:
        file.write(f"{number} {num_open} {name}\n")
    lose = STATE / "lose"
    if lose.exists() and name.startswith(lose.read_text()):
        lose.unlink()
        entry.unlink()
    else:
        command = [sys.executable, __file__, "run", str(number), log, script]
        null = subprocess.DEVNULL
        subprocess.Popen(command, start_new_session=True, stdin=null, stdout=null, stderr=null, close_fds=True)
    sys.stdout.write(f"{number}\n")


def run(number, log, script):
    """Wait for a slot, run the job in a session of its own, and forget it."""
    entry = STATE / "queue" / number
    with _slot(entry) as slot, Path(log).open("a") as output:
        if slot is not None and entry.exists():
            job = subprocess.Popen(
                ["sh", script], start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            entry.write_text(str(job.pid))
            job.wait()
    entry.unlink(missing_ok=True)


def _slot(entry):
    """Return an open file that stands for a slot, or one that stands for none if the job was cancelled meanwhile."""
    while entry.exists():
        for number in range(NUM_SLOTS):
            file = (STATE / f"slot{number}").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                return file
        time.sleep(0.02)
    return Path(os.devnull).open("w")


def cancel(*numbers):
    """Tell the shell of each job alone, as some systems do; kill what lives on."""
    for number in numbers:
        entry = STATE / "queue" / number
        pid = entry.read_text() if entry.exists() else ""
        if not pid:
            entry.unlink(missing_ok=True)
            continue
        os.kill(int(pid), signal.SIGTERM)
        with (STATE / "cancelled").open("a") as file:
            file.write(f"{number}\n")
        limit = time.monotonic() + GRACE_S
        while entry.exists() and time.monotonic() < limit:
            time.sleep(0.02)
        if entry.exists():
            os.killpg(int(pid), signal.SIGKILL)


def main(command, *arguments):
    if command != "run" and (STATE / "down").exists():
        sys.exit("fake batch: cannot reach the server")
    if command == "list":
        sys.stdout.writelines(f"{entry.name}\n" for entry in (STATE / "queue").glob("*"))
    else:
        {"submit": submit, "run": run, "cancel": cancel}[command](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
