"""Two machines with one store: processes that take each other for foreign, where the kernel has no locks."""

import errno
import fcntl
import json
import signal
import subprocess
import sys
import time

import pytest

from dctkd import locks

MACHINE = """
import errno, sys
from pathlib import Path

from dctkd import locks

name, plan, run, stale_s = sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])


def unsupported(*_):
    raise OSError(errno.ENOLCK, "No locks available")


locks.fcntl.flock = unsupported
locks._boot = lambda: name
locks.socket.gethostname = lambda: name
locks.BEAT_S, locks.STALE_S, locks.SETTLE_S, locks.POLL_S = 0.1, stale_s, 0.3, 0.05

from dctkd.engine import job as jobs, pack
from dctkd.engine.interrupt import Interrupt
from dctkd.plan_file import read_plan_of_jobs

train_tasks, after_step = pack.train_tasks, pack._Pack._after_step


def said(job, tasks, *rest):
    print("trains", *sorted(task.run.method for task in tasks), flush=True)
    return train_tasks(job, tasks, *rest)


def told_step(self, group):
    after_step(self, group)
    print("step", group[0].step if group else "", flush=True)
    sys.stdin.readline()  # until the test closes it


pack.train_tasks, pack._Pack._after_step = said, told_step
plan = read_plan_of_jobs(plan)
runs = [plan.at(path) for path in run.split(",")]
jobs.run_job(jobs.make_job(plan, runs, Path("results"), device="cpu"), Interrupt())
print("done", flush=True)
"""


STALE_S = 3.0


class Machine:
    """A process that believes itself on a machine of its own."""

    def __init__(self, experiment, name, *methods, is_held_up=False):
        runs = ",".join(run.path for run in experiment.plan.runs if run.method in methods)
        plan = experiment.results / "tiny/plan.json"
        arguments = [name, str(plan), runs, str(STALE_S)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", MACHINE, *arguments],
            cwd=experiment.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not is_held_up:
            self.go_on()

    def go_on(self):
        self.process.stdin.close()
        self.process.stdin = None

    def wait_for(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return
        pytest.fail(f"never said {word}: {self.process.stderr.read()}")

    def end(self):
        out, err = self.process.communicate(timeout=100)
        return out.splitlines(), err


@pytest.fixture
def experiment(make_experiment, tiny):
    tiny |= {"shared_results": True, "latency_s": 0.3, "checkpoint_every_s": 0.01}
    made = make_experiment(tiny).prepare()
    (made.results / "tiny/plan.json").write_text(made.plan.to_json())
    return made


@pytest.fixture
def machines():
    """Start machines; none outlives the test."""
    started = []

    def start(*args, **kwargs):
        started.append(Machine(*args, **kwargs))
        return started[-1]

    yield start
    for machine in started:
        machine.process.kill()
        machine.process.communicate()


def trained_by(lines):
    return sorted(method for line in lines if line.startswith("trains") for method in line.split()[1:])


@pytest.mark.slow
def test_two_machines_share_out_a_store_and_train_each_run_once(experiment, machines, make_experiment):
    alone = make_experiment(experiment.raw, "alone").prepare().train("kd", "at")
    first = machines(experiment, "node1", "kd", is_held_up=True)
    first.wait_for("step")
    second = machines(experiment, "node2", "kd", "at")
    second.wait_for("trains at")
    first.go_on()
    ended = [machine.end() for machine in (first, second)]
    assert [lines[-1:] for lines, _ in ended] == [["done"], ["done"]], ended
    assert [trained_by(lines) for lines, _ in ended] == [[], []], "nothing but what was said before"
    assert experiment.bits() == alone.bits()


@pytest.mark.slow
def test_a_run_of_a_machine_that_died_is_taken_over_and_ends_with_the_same_bits(experiment, machines, make_experiment):
    alone = make_experiment(experiment.raw, "alone").prepare().train("kd")
    first = machines(experiment, "node1", "kd", is_held_up=True)
    first.wait_for("step")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    started_s = time.monotonic()
    lines, err = machines(experiment, "node2", "kd").end()
    assert lines[-1:] == ["done"], err
    assert time.monotonic() - started_s >= STALE_S, "a silent holder is dead only after a while"
    assert trained_by(lines) == ["kd"]
    assert "step 1" not in lines, "what it had saved is gone on with"
    assert experiment.bits() == alone.bits()


def test_a_name_that_outlives_its_file_on_the_server_gives_no_lock(tmp_path, monkeypatch):
    """The holder removes the lock while another machine, which has the file open, still sees the name."""
    path = tmp_path / "lock"
    monkeypatch.setattr(locks, "_is_at", lambda *_: path.unlink() or True)
    assert locks.try_lock(path) is None


def test_a_file_handle_that_became_stale_gives_no_lock_and_no_error(tmp_path, monkeypatch):
    def stale(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(fcntl, "flock", stale)
    assert locks.try_lock(tmp_path / "lock") is None


def test_a_holder_whose_file_became_stale_still_sees_that_it_was_overtaken(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    mine = locks.try_lock(path)
    path.unlink()
    other = {"host": "node7", "boot": "another kernel", "pid": 12, "since": "today", "token": "t"}
    path.write_text(json.dumps(other))

    def stale(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(locks.os, "utime", stale)
    mine.beat()
    assert mine.is_lost
